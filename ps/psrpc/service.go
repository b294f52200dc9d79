package psrpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dkpipe/ps/pspb"
)

const (
	serviceName    = "dkpipe.ps.v1.ParameterServer"
	methodJoin     = "/" + serviceName + "/Join"
	methodLeave    = "/" + serviceName + "/Leave"
	methodNext     = "/" + serviceName + "/Next"
	methodSession  = "/" + serviceName + "/Session"
	methodExchange = "/" + serviceName + "/Exchange"

	// protocolVersion is of the wire; it changes with every change that an older side would misunderstand.
	protocolVersion = 3
)

// service is the description that gRPC wants of what pspb/ps.proto says in its head comment.
func service() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			unary("Join", (*Server).join),
			unary("Leave", (*Server).leave),
			unary("Next", (*Server).next),
		},
		Streams: []grpc.StreamDesc{
			stream("Session", (*Server).session),
			stream("Exchange", (*Server).exchange),
		},
		Metadata: "ps.proto",
	}
}

func unary[Req, Rep any](name string, call func(*Server, context.Context, *Req) (*Rep, error)) grpc.MethodDesc {
	handler := func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		req := new(Req)
		if err := decode(req); err != nil {
			return nil, err
		}
		run := func(ctx context.Context, req any) (any, error) {
			rep, err := call(srv.(*Server), ctx, req.(*Req))
			if err != nil {
				srv.(*Server).hold(ctx, err)
				return nil, toStatus(err)
			}
			return rep, nil
		}
		if interceptor == nil {
			return run(ctx, req)
		}
		return interceptor(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + serviceName + "/" + name}, run)
	}
	return grpc.MethodDesc{MethodName: name, Handler: handler}
}

func stream(name string, call func(*Server, grpc.ServerStream) error) grpc.StreamDesc {
	handler := func(srv any, s grpc.ServerStream) error { return call(srv.(*Server), s) }
	return grpc.StreamDesc{StreamName: name, Handler: handler, ServerStreams: true, ClientStreams: true}
}

func denied() error {
	s := status.New(codes.Unauthenticated, "wrong join ticket")
	if detailed, err := s.WithDetails(&pspb.Fault{Kind: "denied", Message: "the parameter server does not know this join ticket",
		Hint: "hand the worker the ticket of its run"}); err == nil {
		s = detailed
	}
	return s.Err()
}

// codesUnavailable is what a call that is to be repeated ends with.
const codesUnavailable = codes.Unavailable
