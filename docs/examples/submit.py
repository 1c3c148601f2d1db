import json, secrets, subprocess, sys, tempfile, urllib.error, urllib.request, uuid
from datetime import datetime, timezone

NODE = "http://127.0.0.1:8420"

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTE = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
START, END, PARENT, ROOT = 1, 2, 4, 8

def compress(cv, block, counter, length, flags):
    m = [int.from_bytes(block[i:i + 4], "little") for i in range(0, 64, 4)]
    v = list(cv) + list(IV[:4]) + [counter & 0xFFFFFFFF, counter >> 32, length, flags]
    def mix(a, b, c, d, x, y):
        for word, far, near in ((x, 16, 12), (y, 8, 7)):
            v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
            v[d] ^= v[a]; v[d] = (v[d] >> far | v[d] << 32 - far) & 0xFFFFFFFF
            v[c] = (v[c] + v[d]) & 0xFFFFFFFF
            v[b] ^= v[c]; v[b] = (v[b] >> near | v[b] << 32 - near) & 0xFFFFFFFF
    for _ in range(7):
        for i in range(4):
            mix(i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1])
        for i in range(4):
            mix(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        m = [m[i] for i in PERMUTE]
    return [v[i] ^ v[i + 8] for i in range(8)]

def blake3(data, chunk=0, root=ROOT):
    """The words of BLAKE3-256 of data, which begins at the given 1024-byte chunk."""
    if len(data) > 1024:
        left = 1024
        while 2 * left < len(data):
            left *= 2
        pair = blake3(data[:left], chunk, 0) + blake3(data[left:], chunk + left // 1024, 0)
        return compress(IV, b"".join(w.to_bytes(4, "little") for w in pair), 0, 64, PARENT | root)
    cv, blocks = list(IV), [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
    for i, block in enumerate(blocks):
        last = i == len(blocks) - 1
        flags = (START if i == 0 else 0) | (END | root if last else 0)
        cv = compress(cv, block.ljust(64, b"\0"), chunk, len(block), flags)
    return cv

def digest(envelope):
    unsigned = {name: value for name, value in envelope.items() if name != "signature"}
    canonical = json.dumps(unsigned, sort_keys=True, separators=(",", ":"))  # ASCII, as by default
    return b"".join(w.to_bytes(4, "little") for w in blake3(b"bizra-pci-v1:" + canonical.encode()))

def openssl(*args):
    return subprocess.run(("openssl",) + args, check=True, stdout=subprocess.PIPE).stdout

def sign(key_file, message):
    with tempfile.NamedTemporaryFile() as f:  # openssl signs Ed25519 from files only
        f.write(message)
        f.flush()
        return openssl("pkeyutl", "-sign", "-rawin", "-inkey", key_file, "-in", f.name)

def call(method, path, body=None):
    request = urllib.request.Request(NODE + path, body, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:  # the body is a receipt or a problem document
        return json.load(refused)

def submit(key_file, agent_id, action, data, state_hash=""):
    public = openssl("pkey", "-in", key_file, "-pubout", "-outform", "DER")[-32:]
    envelope = {
        "version": "1.0.0",
        "envelope_id": str(uuid.uuid4()),
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "nonce": secrets.token_hex(32),
        "sender": {"agent_type": "PAT", "agent_id": agent_id, "public_key": public.hex()},
        "payload": {"action": action, "data": data, "policy_hash": call("GET", "/v1/policy")["policy_hash"], "state_hash": state_hash},
        "metadata": {"ihsan_score": 0.99, "snr_score": 0.95, "urgency": "REAL_TIME"},
    }
    envelope["signature"] = {"algorithm": "ed25519", "value": sign(key_file, digest(envelope)).hex(),
                             "signed_fields": ["version", "envelope_id", "timestamp", "nonce", "sender", "payload", "metadata"]}
    return call("POST", "/v1/proofs", json.dumps(envelope).encode())

if __name__ == "__main__":
    region = call("GET", "/v1/policy")["region"]
    name = "python-" + secrets.token_hex(4)
    opened = submit(sys.argv[1], "python", "session.open", {"region": region, "session": name})
    print(opened["name"], opened.get("state"), opened["message"])
    moved = submit(sys.argv[1], "python", "session.transition", {
        "session": name, "to": "active", "operation": "look_up_naïve_😀", "operation_type": "read", "intent": "look up naïve 😀",
        "input": {"words": 2}, "meta": {"description": "what a step must say: docs/http.md"}}, opened["head"])
    print(moved["name"], moved.get("state"), moved["message"])
