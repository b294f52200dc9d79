package main

import (
	"context"

	"dkpipe/pipeline"
	"dkpipe/trainers"
)

// launchSpark makes cfg run its workers in Spark's executors. The caller calls stop in the end.
func (j *job) launchSpark(context.Context, prepared, *trainers.Config) (stop func(), err error) {
	return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "train.launch spark", Hint: "set train.launch to process or join"}
}
