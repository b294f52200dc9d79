package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/sparkconn"
)

// dialSpark connects to the server of a spec's section. Files for TLS that it does not name may be named by the
// environment. An error about the connection string is given its place.
func (a *app) dialSpark(ctx context.Context, s spec.Spark, opt sparkconn.Options) (*sparkconn.Session, error) {
	remote, err := sparkconn.ParseRemote(s.Remote)
	if err != nil {
		return nil, remoteAt(s.Pos, err)
	}
	if opt.TLS, err = a.sparkTLS(s); err != nil {
		return nil, err
	}
	if opt.TLS != nil && !remote.TLS {
		return nil, remoteAt(s.Pos, &pipeline.Error{Kind: pipeline.BadSpec, Message: "spark.remote: files for TLS are named, and the connection is plaintext",
			Hint: "add ;use_ssl=true to the address, or take away spark.ca, cert and key (SPARK_REMOTE_CA, _CERT, _KEY)"})
	}
	opt.InsecurePlaintext = s.InsecurePlaintext
	session, err := sparkconn.Dial(ctx, s.Remote, opt)
	return session, remoteAt(s.Pos, err)
}

// remoteAt puts the place of a connection string before an error about it.
func remoteAt(pos spec.Pos, err error) error {
	var e *pipeline.Error
	if !errors.As(err, &e) || e.Kind != pipeline.BadSpec || pos.File == "" {
		return err
	}
	text, about := strings.CutPrefix(e.Message, "spark.remote: ")
	if !about {
		return err
	}
	return &pipeline.Error{Kind: e.Kind, Message: pos.String() + ": " + text, Hint: e.Hint}
}

// sparkTLS makes the settings of TLS; nil: the system's authorities and no client certificate.
func (a *app) sparkTLS(s spec.Spark) (*tls.Config, error) {
	name := func(field, given string) (string, string) {
		if variable := "SPARK_REMOTE_" + strings.ToUpper(field); given == "" {
			return a.env(variable), variable
		}
		return given, "spark." + field
	}
	bad := func(field string, err error) error {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: field, Err: err, Hint: "name a PEM file that this user can read"}
	}
	ca, caField := name("ca", s.CA)
	cert, certField := name("cert", s.Cert)
	key, keyField := name("key", s.Key)
	if ca == "" && cert == "" && key == "" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, bad(caField, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, bad(caField, errors.New(ca+" holds no certificate"))
		}
	}
	switch {
	case cert == "" && key == "":
		return conf, nil
	case cert == "" || key == "":
		return nil, bad(certField+" and "+keyField, errors.New("one of them is missing"))
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, bad(certField+" and "+keyField, err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, nil
}
