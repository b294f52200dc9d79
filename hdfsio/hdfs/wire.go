package hdfs

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of HDFS are protocol buffers. Those few that reading needs are taken apart here by field number; a
// second set of generated types would collide with the library's in the global registry.

var errTorn = errors.New("the server sent a message that is torn or not one of HDFS")

// scan calls fn for every field of a message: with a number for varints and fixed ones, with bytes for the rest.
func scan(msg []byte, fn func(num protowire.Number, v uint64, s []byte) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return errTorn
		}
		msg = msg[n:]
		var v uint64
		var s []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(msg)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(msg)
		case protowire.Fixed32Type:
			var w uint32
			w, n = protowire.ConsumeFixed32(msg)
			v = uint64(w)
		case protowire.BytesType:
			s, n = protowire.ConsumeBytes(msg)
		default:
			return errTorn
		}
		if n < 0 {
			return errTorn
		}
		msg = msg[n:]
		if err := fn(num, v, s); err != nil {
			return err
		}
	}
	return nil
}

// appendText, appendBytes and appendNumber add a field to a message.
func appendText(b []byte, num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func appendBytes(b []byte, num protowire.Number, s []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// Status in datatransfer.proto.
const (
	statusSuccess     = 0
	statusAccessToken = 5
	statusChecksumOK  = 6
)

var statusNames = []string{"SUCCESS", "ERROR", "ERROR_CHECKSUM", "ERROR_INVALID", "ERROR_EXISTS", "ERROR_ACCESS_TOKEN",
	"CHECKSUM_OK", "ERROR_UNSUPPORTED", "OOB_RESTART", "OOB_RESERVED1", "OOB_RESERVED2", "OOB_RESERVED3", "IN_PROGRESS", "ERROR_BLOCK_PINNED"}

func statusName(v uint64) string {
	if v < uint64(len(statusNames)) {
		return statusNames[v]
	}
	return fmt.Sprint("status ", v)
}
