"""Runs docs/examples/submit.py against a node with nothing but the standard library.

usage: pure.py SUBMIT_PY NODE_URL AGENT_ID < SEED (64 hexadecimal digits)

The example signs with openssl; here Ed25519 (RFC 8032, section 6) takes its place, so that
the test needs Python alone. Prints a receipt a line.
"""
import hashlib, importlib.util, json, sys

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P

def add(a, b):
    A, B = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    C, E = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = B - A, E - C, E + C, B + A
    return e * f % P, g * h % P, f * g % P, e * h % P

def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result

def base_point():
    y = 4 * pow(5, P - 2, P) % P
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if x * x % P != xx:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x & 1:
        x = P - x
    return x, y, 1, x * y % P

BASE = base_point()

def encode(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")

def number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % L

def secret(seed):
    h = hashlib.sha512(seed).digest()
    a = int.from_bytes(h[:32], "little") & ((1 << 254) - 8) | 1 << 254
    return a, h[32:]

def public(seed):
    return encode(multiply(secret(seed)[0], BASE))

def sign(seed, message):
    a, prefix = secret(seed)
    r = number(prefix, message)
    R = encode(multiply(r, BASE))
    s = (r + number(R, encode(multiply(a, BASE)), message) * a) % L
    return R + s.to_bytes(32, "little")

def main(path, node, agent_id):
    seed = bytes.fromhex(sys.stdin.read().strip())
    spec = importlib.util.spec_from_file_location("submit", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.NODE = node
    example.openssl = lambda *args: public(seed)  # of the example's calls only the one for the public key is left
    example.sign = lambda _, message: sign(seed, message)
    region = example.call("GET", "/v1/policy")["region"]
    receipt = example.submit(None, agent_id, "session.open", {"region": region, "session": "pythonic"})
    print(json.dumps(receipt))
    said = {"operation": "naïve_😀_\"quoted\"_\\_/_\x7f", "operation_type": "read", "intent": "naïve 😀 \u2028 \"quoted\" \\ / \x7f",
            "input": [], "meta": {"rationale": "π"}}
    steps = [("active", {}),
             ("computing", {"meta": {"description": "a test", "zeta": 1, "Alpha": [1.0, -0.0, 1e-07, 1e+16, 123456789012345678], "π": None, "\U0001f600": True}}),
             ("validated", {"use": {"tokens": 12, "time_ms": 30}})]
    for to, more in steps:
        receipt = example.submit(None, agent_id, "session.transition", {"session": "pythonic", "to": to, **said, **more}, receipt["head"])
        print(json.dumps(receipt))

if __name__ == "__main__":
    main(*sys.argv[1:])
