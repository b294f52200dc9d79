package sparkconn

import (
	"strings"
	"testing"

	"dkpipe/pipeline"
)

func TestConnectionStrings(t *testing.T) {
	const id = "00112233-4455-6677-8899-aabbccddeeff"
	for s, want := range map[string]Remote{
		"sc://localhost":                                    {Host: "localhost", Port: 15002},
		"sc://host:1/":                                      {Host: "host", Port: 1},
		"sc://[::1]:15002":                                  {Host: "::1", Port: 15002},
		"sc://[fe80::1]":                                    {Host: "fe80::1", Port: 15002},
		"sc://host/;use_ssl=true":                           {Host: "host", Port: 15002, TLS: true},
		"sc://host/;token=YWJj==":                           {Host: "host", Port: 15002, TLS: true, Token: "YWJj=="},
		"sc://127.0.0.9/;token=x":                           {Host: "127.0.0.9", Port: 15002, Token: "x"},
		"sc://host/;token=a%3Bb;use_ssl=false":              {Host: "host", Port: 15002, Token: "a;b", Plaintext: true},
		"sc://h:2/;session_id=" + id + ";user_id=ann":       {Host: "h", Port: 2, SessionID: id, UserID: "ann"},
		"sc://h:2/;session_id=" + strings.ToUpper(id) + ";": {Host: "h", Port: 2, SessionID: id},
	} {
		if got, err := ParseRemote(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", s, got, err, want)
		}
	}
}

func TestBadConnectionStringsAreNamedWithoutTheToken(t *testing.T) {
	for s, word := range map[string]string{
		"":                                     "sc://",
		"http://host":                          "sc://",
		"sc://":                                "host is empty",
		"sc://host:":                           "port",
		"sc://host:0":                          `"0"`,
		"sc://host:65536":                      "65536",
		"sc://host:15002;token=hush":           "slash",
		"sc://ann:hush@host:15002":             "user",
		"sc://::1:15002":                       "host",
		"sc://[host]:15002":                    "host",
		"sc://host/token=hush":                 "semicolon",
		"sc://host/;tokne=hush":                "tokne",
		"sc://host/;token":                     "no value",
		"sc://host/;token=hush;token=hush2":    "twice",
		"sc://host/;token=hush%zz":             "token",
		"sc://host/;use_ssl=maybe;token=hush":  "use_ssl",
		"sc://host/;session_id=12;token=hush":  "session_id",
		"sc://host/;token=hush%0d%0aX-Evil: 1": "token",
		"sc://host/;user_id=":                  "user_id",
	} {
		_, err := ParseRemote(s)
		wantError(t, err, pipeline.BadSpec, word)
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%v repeats the token", err)
		}
	}
}

func FuzzConnectionStrings(f *testing.F) {
	for _, s := range []string{"sc://localhost", "sc://[::1]:15002/;token=a%3Bb;use_ssl=1", "sc://a:b@c/;;="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRemote(s)
		if err != nil {
			return
		}
		again, err := ParseRemote(r.String())
		if err != nil || again.Host != r.Host || again.Port != r.Port {
			t.Errorf("%q is %+v, which prints as %s: %+v, %v", s, r, r, again, err)
		}
	})
}
