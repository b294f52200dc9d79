package psrpc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"dkpipe/ps"
)

// Authority vouches for the servers of one run: a certificate authority whose key never leaves the coordinator. Its tickets
// name it by fingerprint, so that a worker which was handed a ticket talks to that run's servers and to nobody else, without
// any certificate on its machine. The other way round a worker proves that it has the ticket by a key derived from it.
type Authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// certificateLife bounds the certificates of a run; they are not renewed.
const certificateLife = 366 * 24 * time.Hour

// NewAuthority makes an authority for one run.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, badCertificate("making a key", err)
	}
	a := &Authority{key: key}
	t := template("dkpipe run")
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, badCertificate("making a certificate", err)
	}
	return a, nil
}

func template(name string) *x509.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails
	serial[0] &= 0x7f
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-24 * time.Hour), // clocks differ
		NotAfter:  now.Add(certificateLife),
	}
}

// Ticket makes a ticket that names this authority.
func (a *Authority) Ticket() Ticket {
	t := NewTicket()
	t.authority = sha256.Sum256(a.cert.Raw)
	return t
}

// Identity makes the certificate of one server of the run.
func (a *Authority) Identity() (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, badCertificate("making a key", err)
	}
	t := template("dkpipe server")
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return Identity{}, badCertificate("making a certificate", err)
	}
	return Identity{chain: [][]byte{der, a.cert.Raw}, key: key}, nil
}

// Identity is what a server shows to be one of a run. The zero value is none. It prints as a placeholder; PEM gives its key.
type Identity struct {
	chain [][]byte // its certificate, then the authority's
	key   *ecdsa.PrivateKey
}

// String hides the key, so that it does not get into logs.
func (Identity) String() string { return "[identity]" }

// GoString hides the key.
func (Identity) GoString() string { return "[identity]" }

// PEM is the identity as text, for the environment or an inherited file of a server's process.
func (i Identity) PEM() ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(i.key)
	if err != nil {
		return nil, badCertificate("writing a key", err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	for _, c := range i.chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return out, nil
}

// ParseIdentity reads what PEM wrote.
func ParseIdentity(text []byte) (Identity, error) {
	var id Identity
	for len(text) > 0 {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		switch block.Type {
		case "EC PRIVATE KEY":
			key, err := x509.ParseECPrivateKey(block.Bytes)
			if err != nil {
				return Identity{}, badCertificate("reading the key of an identity", err)
			}
			id.key = key
		case "CERTIFICATE":
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				return Identity{}, badCertificate("reading a certificate of an identity", err)
			}
			id.chain = append(id.chain, block.Bytes)
		}
	}
	if id.key == nil || len(id.chain) != 2 {
		return Identity{}, badCertificate("reading an identity", errors.New("not a key and two certificates"))
	}
	return id, nil
}

// Zero says whether it is none.
func (i Identity) Zero() bool { return i.key == nil }

// vouches says whether a ticket names the authority of this identity.
func (i Identity) vouches(t Ticket) bool {
	return len(i.chain) == 2 && sha256.Sum256(i.chain[1]) == t.authority
}

func badCertificate(doing string, err error) error {
	return &ps.Error{Kind: "denied", Message: "certificates of the run: " + doing, Hint: "start the run again", Err: err}
}

// serverCredentials let only in who has the ticket.
func serverCredentials(id Identity, ticket Ticket) credentials.TransportCredentials {
	if id.Zero() {
		return insecure.NewCredentials() // local sockets, or asked for: see Serve
	}
	want := ticket.key().Public().(ed25519.PublicKey)
	return credentials.NewTLS(&tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: id.chain, PrivateKey: id.key}},
		ClientAuth:   tls.RequireAnyClientCert, // checked here: no authority stands behind it but the ticket
		VerifyConnection: func(s tls.ConnectionState) error {
			got, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
			if !ok || subtle.ConstantTimeCompare(got, want) != 1 {
				return errors.New("the worker's key is not that of the join ticket")
			}
			return nil
		},
	})
}

// clientCredentials accept only a server that the authority of the ticket vouches for.
func clientCredentials(ticket Ticket) (credentials.TransportCredentials, error) {
	if !ticket.secured() {
		return insecure.NewCredentials(), nil // local sockets, or asked for: see dial
	}
	key := ticket.key()
	t := template("dkpipe worker")
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, badCertificate("making the worker's certificate", err)
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		// The authority signs for nobody but the servers of this run, so their names do not matter: VerifyConnection does what
		// would be skipped.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			return vouchedFor(s.PeerCertificates, ticket)
		},
	}), nil
}

func vouchedFor(chain []*x509.Certificate, ticket Ticket) error {
	if len(chain) != 2 || sha256.Sum256(chain[1].Raw) != ticket.authority {
		return errors.New("the server does not belong to the run of the join ticket")
	}
	roots := x509.NewCertPool()
	roots.AddCert(chain[1])
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// key is the worker's, derived from the secret of the ticket.
func (t Ticket) key() ed25519.PrivateKey {
	seed, err := hkdf.Key(sha256.New, t.secret[:], nil, "dkpipe join ticket: key of workers", ed25519.SeedSize)
	if err != nil {
		seed = nil // only for lengths that are out of range
	}
	return ed25519.NewKeyFromSeed(seed)
}
