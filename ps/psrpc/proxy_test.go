package psrpc

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// proxy stands between clients and a server and breaks connections on command.
type proxy struct {
	t      *testing.T
	l      net.Listener
	target net.Addr
	// budget gives the number of bytes that the next connection may carry in each direction before it is cut; negative
	// means any number.
	budget func() int64

	mu     sync.Mutex
	closed bool
	pairs  map[*pair]bool
	order  []*pair       // as they came
	gate   chan struct{} // closed: bytes flow
	cuts   int
	all    sync.WaitGroup
}

type pair struct{ a, b net.Conn }

func newProxy(t *testing.T, target net.Addr, budget func() int64) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, l: l, target: target, budget: budget, pairs: map[*pair]bool{}, gate: make(chan struct{})}
	close(p.gate)
	p.all.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) address() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		a, err := p.l.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial(p.target.Network(), p.target.String())
		if err != nil {
			_ = a.Close()
			continue
		}
		c := &pair{a, b}
		up, down := p.budget(), p.budget()
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			_ = a.Close()
			_ = b.Close()
			return
		}
		p.pairs[c] = true
		p.order = append(p.order, c)
		p.mu.Unlock()
		p.all.Go(func() { p.copy(c, c.b, c.a, up) })
		p.all.Go(func() { p.copy(c, c.a, c.b, down) })
	}
}

// copy forwards at most budget bytes, then cuts the pair.
func (p *proxy) copy(c *pair, dst io.Writer, src io.Reader, budget int64) {
	buf := make([]byte, 4<<10)
	for budget != 0 {
		n := int64(len(buf))
		if budget > 0 {
			n = min(n, budget)
		}
		got, err := src.Read(buf[:n])
		p.mu.Lock()
		gate := p.gate
		p.mu.Unlock()
		<-gate
		if got > 0 {
			if _, werr := dst.Write(buf[:got]); werr != nil {
				break
			}
		}
		if err != nil {
			break
		}
		if budget > 0 {
			budget -= int64(got)
		}
	}
	p.drop(c, budget == 0)
}

func (p *proxy) drop(c *pair, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pairs[c] {
		delete(p.pairs, c)
		if cut {
			p.cuts++
		}
		_ = c.a.Close()
		_ = c.b.Close()
	}
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		delete(p.pairs, c)
		p.cuts++
		_ = c.a.Close()
		_ = c.b.Close()
	}
}

// stall lets nothing through until resume: to the server a worker whose process is stopped looks the same.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.l.Close()
	p.resume()
	p.cut()
	p.all.Wait()
}

// newBudget cuts that many connections, each after a random number of bytes; then they hold.
func newBudget(seed uint64, left int) func() int64 {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(3, seed))
	return func() int64 {
		mu.Lock()
		defer mu.Unlock()
		if left--; left < 0 {
			return -1
		}
		return 500 + rng.Int64N(300_000)
	}
}

func unlimited() int64 { return -1 }
