package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
)

// A message's data is a version byte, an attempt byte and the payload. GossipSub takes
// every message once, so what is announced again must differ: by the attempt.
const (
	frameVersion     = 1
	frameHeaderBytes = 2
	attemptMax       = 255
	idBytes          = 20
)

var (
	errFrameShort   = errors.New("message has no payload")
	errFrameVersion = errors.New("message is of a version that this program does not know")
)

func frame(attempt uint8, payload []byte) []byte {
	return append([]byte{frameVersion, attempt}, payload...)
}

func unframe(data []byte) (payload []byte, err error) {
	if len(data) <= frameHeaderBytes {
		return nil, errFrameShort
	}
	if data[0] != frameVersion {
		return nil, errFrameVersion
	}
	return data[frameHeaderBytes:], nil
}

// messageID names a message by its topic and data. Without the topic in it, whoever
// sends a message to a topic where it is invalid would have it taken for known where it is valid.
func messageID(m *pb.Message) string {
	sum := contentHash(m.GetTopic(), m.GetData())
	return string(sum[:idBytes])
}

func contentHash(topic string, content []byte) [sha256.Size]byte {
	h := sha256.New()
	b := make([]byte, 0, binary.MaxVarintLen64+2*sha256.Size)
	h.Write(append(binary.AppendUvarint(b, uint64(len(topic))), topic...))
	h.Write(content)
	return [sha256.Size]byte(h.Sum(b))
}
