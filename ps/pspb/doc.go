// Package pspb holds the control messages of the parameter server's wire, generated from ps.proto. Parameters and deltas
// are not protobuf: psrpc sends them as raw frames beside these messages. The types stay inside psrpc.
//
// To generate again, from the folder of this file, with protoc 3.15 or newer (grpcio-tools 1.85.1 brings one) and
// protoc-gen-go v1.36.12 (pinned in the tools module):
//
//	(cd ../../tools && go build -o /tmp/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go)
//	python -m grpc_tools.protoc -I. --plugin=protoc-gen-go=/tmp/protoc-gen-go --go_out=. --go_opt=paths=source_relative ps.proto
package pspb
