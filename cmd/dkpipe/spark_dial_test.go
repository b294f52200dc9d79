package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dkpipe/internal/box/boxtest"
	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/sparkconn"
)

// tlsProxy is a proxy with TLS in front of a plaintext server; it demands a client certificate, and has a certificate of
// its own. It gives its address and the PEM files of certificate and key, which serve both sides and as the authority.
func tlsProxy(t *testing.T, server string) (address, cert, key string) {
	t.Helper()
	borrowed := httptest.NewUnstartedServer(nil) // for its certificate
	borrowed.StartTLS()
	pair := borrowed.TLS.Certificates[0]
	borrowed.Close()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	var pumps sync.WaitGroup
	t.Cleanup(func() { l.Close(); pumps.Wait() })
	pumps.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			pumps.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", server)
				if err != nil {
					return
				}
				defer out.Close()
				pumps.Go(func() { _, _ = io.Copy(out, in); out.Close() })
				_, _ = io.Copy(in, out)
			})
		}
	})
	return l.Addr().String(), cert, key
}

// TestSparkBehindTLS: the files that the spec or the environment name reach the real server through a proxy that wants a
// client certificate; without them the error says which file is missing.
func TestSparkBehindTLS(t *testing.T) {
	address, cert, key := tlsProxy(t, strings.TrimPrefix(boxtest.Shared(t, "spark").Spark, "sc://"))
	remote := "sc://" + address + "/;use_ssl=true"
	variables := map[string]string{"SPARK_REMOTE_CA": cert, "SPARK_REMOTE_CERT": cert, "SPARK_REMOTE_KEY": key}
	pos := spec.Pos{File: "job.yaml", Line: 2, Column: 9, Field: "spark.remote"}
	for name, c := range map[string]struct {
		spark     spec.Spark
		env       map[string]string
		kind      pipeline.Kind
		text, tip string
	}{
		"files of the spec":        {spark: spec.Spark{Remote: remote, CA: cert, Cert: cert, Key: key}},
		"files of the environment": {spark: spec.Spark{Remote: remote}, env: variables},
		"no authority":             {spark: spec.Spark{Remote: remote}, kind: pipeline.Unreachable, text: "certificate", tip: "spark.ca"},
		"no client certificate":    {spark: spec.Spark{Remote: remote, CA: cert}, kind: pipeline.Unreachable, text: "certificate", tip: "spark.cert"},
		"half a client certificate": {spark: spec.Spark{Remote: remote}, env: map[string]string{"SPARK_REMOTE_KEY": key}, kind: pipeline.BadSpec,
			text: "SPARK_REMOTE_CERT and SPARK_REMOTE_KEY: one of them is missing", tip: "PEM"},
		"no such file":         {spark: spec.Spark{Remote: remote, CA: cert + "x"}, kind: pipeline.BadSpec, text: "spark.ca: open ", tip: "PEM"},
		"no certificate in it": {spark: spec.Spark{Remote: remote, CA: key}, kind: pipeline.BadSpec, text: "holds no certificate", tip: "PEM"},
		"files and plaintext":  {spark: spec.Spark{Remote: "sc://" + address, CA: cert, Pos: pos}, kind: pipeline.BadSpec, text: "job.yaml:2:9: spark.remote: files for TLS", tip: ";use_ssl=true"},
		"plaintext far away":   {spark: spec.Spark{Remote: "sc://spark.invalid", Pos: pos}, kind: pipeline.BadSpec, text: "job.yaml:2:9: spark.remote: plaintext to spark.invalid", tip: "use_ssl"},
		"a token far away in plaintext": {spark: spec.Spark{Remote: "sc://spark.invalid/;use_ssl=false;token=hush", Pos: pos}, kind: pipeline.BadSpec,
			text: "job.yaml:2:9: spark.remote: the token would go", tip: "insecure_plaintext"},
		"the same, allowed": {spark: spec.Spark{Remote: "sc://spark.invalid/;use_ssl=false;token=hush", InsecurePlaintext: true}, kind: pipeline.Unreachable, text: "no such host", tip: "spelling"},
		"an empty host":     {spark: spec.Spark{Remote: "sc://", Pos: pos}, kind: pipeline.BadSpec, text: "job.yaml:2:9: spark.remote: the host is empty", tip: "sc://host"},
	} {
		t.Run(name, func(t *testing.T) {
			dial := func() (*sparkconn.Session, error) {
				return newApp(io.Discard, io.Discard, func(v string) string { return c.env[v] }).dialSpark(context.WithoutCancel(t.Context()), c.spark, sparkconn.Options{})
			}
			s, err := dial()
			// The other side says why it hangs up, and hangs up: what is written in between may break the pipe before that is read.
			for range 20 {
				if !hungUp(err) {
					break
				}
				s, err = dial()
			}
			if c.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Exec(t.Context(), "", "SELECT 1"); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			var e *pipeline.Error
			if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.text) || !strings.Contains(e.Hint, c.tip) || strings.Contains(err.Error(), "hush") {
				t.Errorf("error %v, %+v", err, e)
			}
		})
	}
}

// hungUp says whether an error tells no more than that the other side hung up.
func hungUp(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "broken pipe") || strings.Contains(err.Error(), "connection reset"))
}
