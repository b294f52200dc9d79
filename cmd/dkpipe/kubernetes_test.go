package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"dkpipe/pipeline/spec"
	"dkpipe/ps/psrpc"
)

// manifest is what this test looks at of a Kubernetes object.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Completions, Parallelism int
		Ports                    []struct{ Port int }
		Template                 struct {
			Spec struct {
				RestartPolicy string `yaml:"restartPolicy"`
				Containers    []struct {
					Args []string
					Env  []struct {
						Name, Value string
						ValueFrom   struct {
							SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
						} `yaml:"valueFrom"`
					}
				}
			}
		}
	}
}

// manifests reads all documents of the example.
func manifests(t *testing.T) map[string]manifest {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "examples", "kubernetes", "workers.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]manifest{}
	d := yaml.NewDecoder(f)
	for {
		var m manifest
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out[m.Kind+" "+m.Metadata.Name] = m
	}
}

// TestTheKubernetesExampleIsRight reads the manifests as this program would see them: its flags and fields exist, both ends
// mean the same service and port, and no ticket is in the arguments.
func TestTheKubernetesExampleIsRight(t *testing.T) {
	m := manifests(t)
	service, coordinator, workers := m["Service dkpipe-run"], m["Job dkpipe-coordinator"], m["Job dkpipe-workers"]
	if len(m) != 3 || len(service.Spec.Ports) != 1 || service.Spec.Ports[0].Port != 7070 {
		t.Fatalf("%d objects: %+v", len(m), m)
	}
	root := newApp(io.Discard, io.Discard, func(string) string { return "" }).command()
	parse := func(job manifest) *cobra.Command {
		t.Helper()
		if c := job.Spec.Template.Spec.Containers; len(c) != 1 {
			t.Fatalf("%s has %d containers", job.Metadata.Name, len(c))
		}
		c, flags, err := root.Find(job.Spec.Template.Spec.Containers[0].Args)
		if err == nil {
			err = c.ParseFlags(flags)
		}
		if err != nil || len(c.Flags().Args()) > 0 {
			t.Fatalf("%s: %v, arguments %v", job.Metadata.Name, err, c.Flags().Args())
		}
		return c
	}
	w := parse(workers)
	if at := w.Flag("connect").Value.String(); at != "dkpipe-run:7070" {
		t.Errorf("workers connect to %s", at)
	}
	set, err := parse(coordinator).Flags().GetStringArray("set")
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.ReadFile(filepath.Join("..", "..", "examples", "quickstart", "job.yaml"), spec.Options{Set: set, Need: spec.ForTrain})
	if err != nil {
		t.Fatal(err)
	}
	if tr := s.Train; tr.Launch != "join" || tr.Listen != "0.0.0.0:7070" || tr.Advertise != "dkpipe-run:7070" || tr.Workers != workers.Spec.Completions {
		t.Errorf("launch %s at %s, advertised as %s, %d workers", tr.Launch, tr.Listen, tr.Advertise, tr.Workers)
	}
	if workers.Spec.Completions < 2 || workers.Spec.Completions != workers.Spec.Parallelism {
		t.Errorf("%d completions, %d at a time", workers.Spec.Completions, workers.Spec.Parallelism)
	}
	for _, job := range []manifest{coordinator, workers} {
		c := job.Spec.Template.Spec.Containers[0]
		for _, a := range c.Args {
			if _, err := psrpc.ParseTicket(a); err == nil || strings.Contains(a, "ticket") {
				t.Errorf("%s has a ticket in its arguments: %s", job.Metadata.Name, a)
			}
		}
		secret := false
		for _, e := range c.Env {
			secret = secret || e.Name == ticketVariable && e.Value == "" && e.ValueFrom.SecretKeyRef.Name == "dkpipe-run" && e.ValueFrom.SecretKeyRef.Key == "ticket"
		}
		if !secret {
			t.Errorf("%s does not get its ticket from the secret", job.Metadata.Name)
		}
	}
}
