package sparkconn

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dkpipe/pipeline/expr"
)

func TestEveryTaskHasAKey(t *testing.T) {
	for _, n := range []int{2, 7, 64, 1000, mostTasks} {
		keys := strings.Split(strings.TrimSuffix(strings.TrimPrefix(taskKeys(n), "array("), ")"), ", ")
		if len(keys) != n {
			t.Fatalf("%d keys for %d tasks", len(keys), n)
		}
		for i, k := range keys {
			v, err := strconv.Atoi(k)
			if err != nil || ((int(murmur3(int32(v)))%n)+n)%n != i {
				t.Errorf("the key %q is for another task than %d of %d, %v", k, i, n, err)
			}
		}
	}
	if taskKeys(1) != "" || taskKeys(mostTasks+1) != "" {
		t.Error("keys for one task, or for too many")
	}
}

func TestSparkHashesKeysAsGoDoes(t *testing.T) {
	s := dialReal(t)
	var items []string
	values := []int32{0, 1, -1, 42, 123456789, -2147483648, 2147483647}
	for _, v := range values {
		items = append(items, "hash(CAST("+strconv.Itoa(int(v))+"L AS INT))")
	}
	got, err := s.table(t.Context(), "hashes", "", "SELECT "+strings.Join(items, ", "))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if h := got.cols[i].ints[0]; h != int64(murmur3(v)) {
			t.Errorf("hash(%d) is %d in Spark and %d in Go", v, h, murmur3(v))
		}
	}
}

func TestEveryShardIsATaskOfItsOwn(t *testing.T) {
	s := dialReal(t)
	p := sqlOver("SELECT id, CAST(id AS FLOAT) AS x FROM range(0, 3000, 1, 3)")
	p.Fitted, p.Shards = []expr.Fitted{}, 7
	err := Engine{Session: s}.run(t.Context(), p, func(ctx context.Context, r *run) error {
		c, outputs, err := r.finished(false, false)
		if err != nil {
			return err
		}
		got, err := r.table(t.Context(), "tasks", "SELECT DISTINCT spark_partition_id(), "+partColumn+", "+shardColumn+" FROM ("+rowsSQL(c, outputs, p.Shards, false)+")")
		if err != nil {
			return err
		}
		var tasks []int64
		for i := range got.rows {
			shard := got.cols[2].ints[i]
			if got.cols[1].texts[i] == "test" {
				shard += 7
			}
			if got.cols[0].ints[i] != shard {
				t.Errorf("shard %d of %s is made by task %d, want %d", got.cols[2].ints[i], got.cols[1].texts[i], got.cols[0].ints[i], shard)
			}
			tasks = append(tasks, got.cols[0].ints[i])
		}
		slices.Sort(tasks)
		if tasks = slices.Compact(tasks); len(tasks) != 14 || got.rows != 14 {
			t.Errorf("%d shards are made by %d tasks, want 14 by 14", got.rows, len(tasks))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
