package psrpc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"

	"google.golang.org/grpc/metadata"

	"dkpipe/ps"
)

// ticketKey is the metadata key of the ticket; -bin makes gRPC carry it as bytes.
const ticketKey = "dkpipe-ticket-bin"

// Ticket lets a worker take part in a run. It prints as a placeholder; Text gives its secret.
type Ticket struct {
	secret    [32]byte
	authority [32]byte // SHA-256 of the run's certificate authority; zero: no TLS
}

// NewTicket makes a random ticket.
func NewTicket() Ticket {
	var t Ticket
	_, _ = rand.Read(t.secret[:]) // never fails
	return t
}

// ParseTicket reads what Text wrote.
func ParseTicket(text string) (Ticket, error) {
	var t Ticket
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(t.secret) && len(b) != len(t.secret)+len(t.authority) {
		return Ticket{}, &ps.Error{Kind: "denied", Message: "join ticket: not 64 or 128 hexadecimal digits",
			Hint: "hand the worker the ticket of its run as the coordinator gave it"}
	}
	copy(t.authority[:], b[copy(t.secret[:], b):])
	return t, nil
}

// Text is the secret, and the fingerprint of the authority if there is one, as 64 or 128 hexadecimal digits, for an
// environment variable or an inherited file.
func (t Ticket) Text() string {
	text := hex.EncodeToString(t.secret[:])
	if t.secured() {
		text += hex.EncodeToString(t.authority[:])
	}
	return text
}

// secured says whether connections with this ticket are encrypted.
func (t Ticket) secured() bool { return t.authority != [32]byte{} }

// String hides the secret, so that it does not get into logs.
func (t Ticket) String() string { return "[ticket]" }

// GoString hides the secret.
func (t Ticket) GoString() string { return "[ticket]" }

// MarshalText hides the secret from encoders.
func (t Ticket) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

func (t Ticket) zero() bool { return t.secret == [32]byte{} }

// admits says whether the caller showed this ticket. The comparison takes the same time wherever the first difference is.
func (t Ticket) admits(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	shown := md.Get(ticketKey)
	return len(shown) == 1 && subtle.ConstantTimeCompare([]byte(shown[0]), t.secret[:]) == 1
}

// shown shows a ticket with every call (credentials.PerRPCCredentials).
type shown struct{ ticket Ticket }

func (s shown) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{ticketKey: string(s.ticket.secret[:])}, nil
}

// RequireTransportSecurity is false: a connection that leaves the machine has TLS, see dial.
func (shown) RequireTransportSecurity() bool { return false }
