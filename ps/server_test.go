package ps_test

import (
	"testing"

	"go.uber.org/goleak"

	"dkpipe/ps"
	"dkpipe/ps/pstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServerKeepsTheContract(t *testing.T) {
	pstest.TestServer(t, func(t *testing.T, srv *ps.Server) func(ps.Worker) (pstest.Conn, uint64) {
		return func(w ps.Worker) (pstest.Conn, uint64) {
			life, err := srv.Join(w)
			if err != nil {
				t.Fatal(err)
			}
			return srv, life
		}
	})
}
