package main

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dkpipe/trainers"
)

// TestTheBestCheckpointsAreRankedByTheValidation: by what early stopping monitors, val_loss without it; what was not measured yet
// stays until it is.
func TestTheBestCheckpointsAreRankedByTheValidation(t *testing.T) {
	var epochs []trainers.Epoch
	for i, loss := range []float64{0.5, 0.2, 0.3, math.NaN()} {
		epochs = append(epochs, trainers.Epoch{Epoch: i + 1, Validation: trainers.Metrics{{Name: "loss", Value: loss}, {Name: "accuracy", Value: loss}}})
	}
	epochs = append(epochs, trainers.Epoch{Epoch: 5})
	all := []keptCheckpoint{{1, 1}, {2, 2}, {3, 3}, {4, 4}, {5, 5}, {6, 6}}
	by := &trainers.Validation{}
	best, waiting := rank(all, epochs, by, 2)
	if !slices.Equal(best, []keptCheckpoint{{2, 2}, {3, 3}}) || !slices.Equal(waiting, []keptCheckpoint{{5, 5}, {6, 6}}) {
		t.Errorf("by val_loss: %v, waiting %v", best, waiting)
	}
	by.EarlyStopping = &trainers.EarlyStopping{Monitor: "val_accuracy"}
	if best, _ = rank(all, epochs, by, 2); !slices.Equal(best, []keptCheckpoint{{1, 1}, {3, 3}}) {
		t.Errorf("by val_accuracy: %v", best)
	}
}

// TestTheBestCheckpointStays beside the newest ones, is named in the report, and stays when the run is complete.
func TestTheBestCheckpointStays(t *testing.T) {
	dir := resumable(t, "")
	r := run(t, dir, 0, "train", "-f", "job.yaml", "--set", "train.optimizer.adam.learning_rate=0.02,gate.at_least=0.1,train.epochs=60")
	b := r.BestCheckpoint
	if b == nil || b.Monitor != "val_loss" || b.Epoch == 0 {
		t.Fatalf("the best checkpoint is %+v", b)
	}
	if _, err := os.Stat(filepath.Join(dir, b.Path, serverName)); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "out/checkpoint/v*"))
	if err != nil || len(left) != 2 {
		t.Errorf("%v are left, want the mark of a complete run and the best one", left)
	}
}
