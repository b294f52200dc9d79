package box

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// tokenProperty makes Spark ask for a token.
const tokenProperty = "spark.connect.authenticate.token"

const sparkService = "/spark.connect.SparkConnectService/"

// probeSpark runs SELECT 1 through the Connect port. An open port is not a server that answers; and the first query
// of a JVM takes seconds, which a client of a fresh box should not have to know.
//
// The few fields of the messages are written by hand (spark/connect/base.proto and relations.proto, Spark 4.0).
func probeSpark(ctx context.Context, address, token string) error {
	conn, err := dialSpark(address, token)
	if err != nil {
		return &Error{Kind: kindInternal, Message: "Spark at " + address, Err: err}
	}
	defer conn.Close()
	session := newSession()
	rows, err := query(ctx, conn, session, "SELECT 1")
	if err == nil && rows != 1 {
		err = fmt.Errorf("the result has %d rows", rows)
	}
	if err != nil {
		return &Error{Kind: kindUnreachable, Message: "Spark at " + address + " does not answer SELECT 1", Err: err}
	}
	request := sessionFields(session) // ReleaseSessionRequest
	var reply []byte
	// A courtesy: Spark 3.5 does not know the call, and without MLlib it fails in Spark 4.2.
	_ = conn.Invoke(ctx, sparkService+"ReleaseSession", request, &reply)
	return nil
}

// dialSpark connects with a token, or without when it is empty.
func dialSpark(address, token string) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}))}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	return grpc.NewClient("passthrough:///"+address, options...)
}

// bearer is the token that a server asks for.
type bearer string

// GetRequestMetadata gives the header with the token.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false: the server is on this machine.
func (bearer) RequireTransportSecurity() bool { return false }

// query runs a statement and counts the rows of its result.
func query(ctx context.Context, conn *grpc.ClientConn, session, sql string) (rows uint64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, sparkService+"ExecutePlan", grpc.WaitForReady(true))
	if err != nil {
		return 0, err
	}
	if err := stream.SendMsg(executeRequest(session, sql)); err != nil {
		return 0, err
	}
	if err := stream.CloseSend(); err != nil {
		return 0, err
	}
	for {
		var response []byte
		err := stream.RecvMsg(&response)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return 0, err
		}
		if batch, ok := field(response, 2); ok { // ExecutePlanResponse.arrow_batch
			rows += varint(batch, 1) // ArrowBatch.row_count
		}
	}
}

// executeRequest is an ExecutePlanRequest: session_id 1, user_context 2, plan 3 (Plan.root 1 = Relation.sql 10 =
// SQL.query 1).
func executeRequest(session, sql string) []byte {
	plan := bytesField(nil, 1, bytesField(nil, 10, text(nil, 1, sql)))
	return bytesField(sessionFields(session), 3, plan)
}

// sessionFields are the first two fields of every request: the session and the user.
func sessionFields(session string) []byte {
	return bytesField(text(nil, 1, session), 2, text(nil, 1, "box"))
}

// newSession gives a random identifier of the form that Spark asks for, a UUID of version 4.
func newSession() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func text(b []byte, number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

func bytesField(b []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), content)
}

// field finds the last field of that number that holds bytes.
func field(message []byte, number protowire.Number) (content []byte, found bool) {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return nil, false
		}
		message = message[size:]
		if n == number && kind == protowire.BytesType {
			content, size = protowire.ConsumeBytes(message)
			found = size >= 0
		} else {
			size = protowire.ConsumeFieldValue(n, kind, message)
		}
		if size < 0 {
			return nil, false
		}
		message = message[size:]
	}
	return content, found
}

// varint finds the last field of that number that holds a number; 0 when there is none.
func varint(message []byte, number protowire.Number) (value uint64) {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return value
		}
		message = message[size:]
		if n == number && kind == protowire.VarintType {
			value, size = protowire.ConsumeVarint(message)
		} else {
			size = protowire.ConsumeFieldValue(n, kind, message)
		}
		if size < 0 {
			return value
		}
		message = message[size:]
	}
	return value
}

// rawCodec passes messages as bytes.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("a message of type %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("a message of type %T", v)
	}
	*b = data.Materialize()
	return nil
}
