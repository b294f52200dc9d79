package hdfs

import (
	"sync"
	"time"
)

// penalty is how long a datanode that failed is asked last.
const penalty = 30 * time.Second

// maxRemembered bounds what is remembered; beyond it everything is forgotten, which costs one more failure each.
const maxRemembered = 10_000

// health remembers which datanodes failed lately, and which replicas have wrong bytes. The zero value knows of none.
type health struct {
	mu      sync.Mutex
	nodes   map[string]time.Time // when a datanode failed last
	corrupt map[copyOf]bool      // replicas with wrong bytes; true: the NameNode was told
}

// copyOf names one replica.
type copyOf struct {
	block   uint64
	address string
}

// failed notes that a replica could not be read.
func (h *health) failed(block uint64, address string, corrupt bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if corrupt {
		if h.corrupt == nil || len(h.corrupt) >= maxRemembered {
			h.corrupt = make(map[copyOf]bool)
		}
		if key := (copyOf{block, address}); !h.corrupt[key] {
			h.corrupt[key] = false
		}
		return
	}
	if h.nodes == nil || len(h.nodes) >= maxRemembered {
		h.nodes = make(map[string]time.Time)
	}
	h.nodes[address] = time.Now()
}

// best gives the replica to read from: in the order of the NameNode, which knows who is near, but first those of
// datanodes that did not fail lately, and last those that had wrong bytes.
func (h *health) best(b *block, tried func(address string) bool) (replica, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	found, least := -1, 0
	for i, r := range b.replicas {
		if tried(r.address) {
			continue
		}
		score := 0
		if t, ok := h.nodes[r.address]; ok && time.Since(t) < penalty {
			score = 1
		}
		if _, bad := h.corrupt[copyOf{b.id, r.address}]; bad {
			score = 2
		}
		if found < 0 || score < least {
			found, least = i, score
		}
	}
	if found < 0 {
		return replica{}, false
	}
	return b.replicas[found], true
}

// report gives true the first time that a replica with wrong bytes is to be reported.
func (h *health) report(block uint64, address string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := copyOf{block, address}
	told, known := h.corrupt[key]
	if known && !told {
		h.corrupt[key] = true
	}
	return known && !told
}
