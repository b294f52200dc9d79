package sparkconn

import (
	"math/bits"
	"strconv"
	"strings"
)

// taskColumn is an INT that Spark's hash partitioning sends to another task for every shard.
const taskColumn = "__dkpipe_task"

// mostTasks bounds the text of taskKeys.
const mostTasks = 4096

// taskKeys is an array of n INTs of which the i-th goes to partition i of n. Spark sends a row to the partition
// pmod(murmur3(key), n); by the names of parts and shards alone, several would meet in one task while other tasks get
// none, and the job would last as long as the fullest. A server that places rows otherwise gives the same shards, only
// not as evenly. It is empty where it would not pay.
func taskKeys(n int) string {
	if n < 2 || n > mostTasks {
		return ""
	}
	keys := make([]string, n)
	for k, left := int32(0), n; left > 0; k++ {
		i := int(murmur3(k)) % n
		if i < 0 {
			i += n
		}
		if keys[i] == "" {
			keys[i] = strconv.Itoa(int(k))
			left--
		}
	}
	return "array(" + strings.Join(keys, ", ") + ")"
}

// murmur3 is Spark's hash of an INT: MurmurHash3_x86_32 (A. Appleby) of its four bytes, with the seed 42.
func murmur3(v int32) int32 {
	k := bits.RotateLeft32(uint32(v)*0xcc9e2d51, 15) * 0x1b873593
	h := bits.RotateLeft32(42^k, 13)*5 + 0xe6546b64
	h ^= 4
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return int32(h ^ h>>16)
}
