package hdfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"sort"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"dkpipe/hdfsio"
)

// layout says where the bytes of a file are: LocatedBlocksProto, as far as reading needs it.
type layout struct {
	size   int64
	blocks []block // without gaps, from 0 to size
}

// block is a run of bytes of a file that some datanodes hold.
type block struct {
	id       uint64
	start    int64 // within the file
	size     int64
	raw      []byte // ExtendedBlockProto, as datanodes want it back
	token    []byte // TokenProto
	replicas []replica
}

// replica is one copy of a block.
type replica struct {
	address string // host:port of the datanode
	raw     []byte // DatanodeInfoProto, and
	storage string // the storage's id, as reports of bad replicas want them
}

// locate asks the NameNode for the blocks of a file.
func (c *client) locate(name string) (layout, error) {
	request := appendNumber(appendNumber(appendText(nil, 1, name), 2, 0), 3, math.MaxInt64)
	answer, err := c.own("getBlockLocations", request)
	if err != nil {
		return layout{}, err
	}
	return parseLayout(answer, c.o.UseDatanodeHostname)
}

// own makes a call of our own at the NameNode that the library is connected to.
func (c *client) own(method string, request []byte) ([]byte, error) {
	if c.rpc == nil {
		var err error
		if c.rpc, err = dialRPC(c.dial, c.server(), c.o.User); err != nil {
			return nil, err
		}
	}
	return c.rpc.do(method, request)
}

// report tells the NameNode of replicas whose bytes are wrong, so that it makes new ones from the good.
func (c *client) report(b *block, bad replica) error {
	located := appendBytes(nil, 1, b.raw)
	located = appendNumber(located, 2, uint64(b.start))
	located = appendBytes(located, 3, bad.raw)
	located = appendNumber(located, 4, 0)
	located = appendBytes(located, 5, b.token)
	if bad.storage != "" {
		located = appendText(located, 8, bad.storage)
	}
	_, err := c.own("reportBadBlocks", appendBytes(nil, 1, located))
	return err
}

// parseLayout reads GetBlockLocationsResponseProto. What it cannot serve it refuses by name.
func parseLayout(answer []byte, byName bool) (layout, error) {
	var l layout
	found := false
	err := scan(answer, func(num protowire.Number, _ uint64, s []byte) error {
		if num != 1 || s == nil {
			return nil
		}
		found = true
		return scan(s, func(num protowire.Number, v uint64, s []byte) error {
			switch num {
			case 1:
				l.size = int64(v)
			case 2:
				b, err := parseBlock(s, byName)
				if err != nil {
					return err
				}
				l.blocks = append(l.blocks, b)
			case 6:
				return errEncryptedFile
			case 7:
				return errErasureCoded
			}
			return nil
		})
	})
	if err != nil {
		return layout{}, err
	}
	if !found {
		return layout{}, fs.ErrNotExist
	}
	return l, l.check()
}

// check makes sure that the blocks cover the file without gaps, so that every offset has exactly one.
func (l *layout) check() error {
	next := int64(0)
	for i := range l.blocks {
		b := &l.blocks[i]
		if b.start != next || b.size < 0 || b.size > math.MaxInt64-next {
			return fmt.Errorf("block %d does not begin where the one before ends: %w", b.id, errTorn)
		}
		next += b.size
	}
	if next < l.size || l.size < 0 {
		return fmt.Errorf("the blocks hold %d bytes of %d: %w", next, l.size, errTorn)
	}
	return nil
}

// find gives the index of the block that holds an offset below size.
func (l *layout) find(off int64) int {
	return sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i].start+l.blocks[i].size > off })
}

// parseBlock reads LocatedBlockProto.
func parseBlock(msg []byte, byName bool) (block, error) {
	var b block
	var storages []string
	err := scan(msg, func(num protowire.Number, v uint64, s []byte) error {
		switch num {
		case 1:
			b.raw = s
			return scan(s, func(num protowire.Number, v uint64, _ []byte) error {
				switch num {
				case 2:
					b.id = v
				case 4:
					b.size = int64(v)
				}
				return nil
			})
		case 2:
			b.start = int64(v)
		case 3:
			r, err := parseReplica(s, byName)
			if err != nil {
				return err
			}
			b.replicas = append(b.replicas, r)
		case 5:
			b.token = s
		case 8:
			storages = append(storages, string(s))
		}
		return nil
	})
	if len(storages) == len(b.replicas) {
		for i := range storages {
			b.replicas[i].storage = storages[i]
		}
	}
	return b, err
}

// parseReplica reads DatanodeInfoProto.
func parseReplica(msg []byte, byName bool) (replica, error) {
	r := replica{raw: msg}
	var ip, host string
	var port uint64
	err := scan(msg, func(num protowire.Number, _ uint64, s []byte) error {
		if num != 1 {
			return nil
		}
		return scan(s, func(num protowire.Number, v uint64, s []byte) error {
			switch num {
			case 1:
				ip = string(s)
			case 2:
				host = string(s)
			case 4:
				port = v
			}
			return nil
		})
	})
	if byName || ip == "" {
		ip = host
	}
	if err == nil && (ip == "" || port == 0 || port > math.MaxUint16) {
		err = fmt.Errorf("a datanode without an address: %w", errTorn)
	}
	r.address = net.JoinHostPort(ip, strconv.FormatUint(port, 10))
	return r, err
}

var (
	errErasureCoded = &hdfsio.Error{Op: "open", Path: "file", Kind: hdfsio.KindUnsupported, Err: errors.New("the file is erasure-coded"),
		Hint: "copy it to a replicated folder: hdfs ec -setPolicy -replicate -path DIR, then hdfs dfs -cp"}
	errEncryptedFile = &hdfsio.Error{Op: "open", Path: "file", Kind: hdfsio.KindUnsupported, Err: errors.New("the file is in an encryption zone"),
		Hint: "copy it out of the zone with hdfs dfs -cp, as a user who may decrypt it"}
)

// refused gives one of these errors the operation and the path.
func refused(op, name string, e *hdfsio.Error) error {
	return &hdfsio.Error{Op: op, Path: name, Kind: e.Kind, Err: e.Err, Hint: e.Hint}
}
