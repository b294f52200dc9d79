package main

import (
	"errors"
	"fmt"
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
		CompletionMode           string `yaml:"completionMode"`
		Completions, Parallelism int
		Ports                    []struct{ Port int }
		Template                 struct {
			Spec struct {
				RestartPolicy string `yaml:"restartPolicy"`
				Subdomain     string
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

// manifests reads all documents of a file of the example.
func manifests(t *testing.T, name string) map[string]manifest {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "examples", "kubernetes", name))
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

// parseManifest gives the command of a manifest's only container, its flags read, which has the run's ticket from the secret and
// not in its arguments.
func parseManifest(t *testing.T, job manifest) *cobra.Command {
	t.Helper()
	if n := len(job.Spec.Template.Spec.Containers); n != 1 {
		t.Fatalf("%s has %d containers", job.Metadata.Name, n)
	}
	pod := job.Spec.Template.Spec.Containers[0]
	secret := false
	for _, e := range pod.Env {
		secret = secret || e.Name == ticketVariable && e.Value == "" && e.ValueFrom.SecretKeyRef.Name == "dkpipe-run" && e.ValueFrom.SecretKeyRef.Key == "ticket"
	}
	if !secret {
		t.Errorf("%s does not get its ticket from the secret", job.Metadata.Name)
	}
	for _, a := range pod.Args {
		if _, err := psrpc.ParseTicket(a); err == nil || strings.Contains(a, "ticket") {
			t.Errorf("%s has a ticket in its arguments: %s", job.Metadata.Name, a)
		}
	}
	c, flags, err := newApp(io.Discard, io.Discard, func(string) string { return "" }).command().Find(pod.Args)
	if err == nil {
		err = c.ParseFlags(flags)
	}
	if err != nil || len(c.Flags().Args()) > 0 {
		t.Fatalf("%s: %v, arguments %v", job.Metadata.Name, err, c.Flags().Args())
	}
	return c
}

// TestTheKubernetesExampleIsRight reads the manifests as this program would see them: its flags and fields exist, both ends
// mean the same service and port, and no ticket is in the arguments.
func TestTheKubernetesExampleIsRight(t *testing.T) {
	m := manifests(t, "workers.yaml")
	service, coordinator, workers := m["Service dkpipe-run"], m["Job dkpipe-coordinator"], m["Job dkpipe-workers"]
	if len(m) != 3 || len(service.Spec.Ports) != 1 || service.Spec.Ports[0].Port != 7070 {
		t.Fatalf("%d objects: %+v", len(m), m)
	}
	if at := parseManifest(t, workers).Flag("connect").Value.String(); at != "dkpipe-run:7070" {
		t.Errorf("workers connect to %s", at)
	}
	set, err := parseManifest(t, coordinator).Flags().GetStringArray("set")
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
}

// TestTheKubernetesDataServersAreRight: what the coordinator is to be told is what Kubernetes calls the pods.
func TestTheKubernetesDataServersAreRight(t *testing.T) {
	m := manifests(t, "servers.yaml")
	service, servers := m["Service dkpipe-servers"], m["Job dkpipe-servers"]
	if len(m) != 2 || len(service.Spec.Ports) != 1 || servers.Spec.CompletionMode != "Indexed" || servers.Spec.Template.Spec.Subdomain != service.Metadata.Name {
		t.Fatalf("%d objects: %+v", len(m), m)
	}
	port := fmt.Sprint(":", service.Spec.Ports[0].Port)
	if at := parseManifest(t, servers).Flag("listen").Value.String(); at != "0.0.0.0"+port {
		t.Errorf("data servers listen at %s", at)
	}
	var all []string
	for i := range servers.Spec.Completions {
		all = append(all, fmt.Sprintf("%s-%d.%s%s", servers.Metadata.Name, i, service.Metadata.Name, port))
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "kubernetes", "servers.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `--servers, "` + strings.Join(all, ",") + `"`; len(all) < 2 || servers.Spec.Parallelism != len(all) || !strings.Contains(string(text), want) {
		t.Errorf("%d at a time, and the file does not say %s", servers.Spec.Parallelism, want)
	}
	set := `train.servers=["` + strings.Join(all, `","`) + `"]`
	s, err := spec.ReadFile(filepath.Join("..", "..", "examples", "quickstart", "job.yaml"), spec.Options{Set: []string{"train.launch=join", set}, Need: spec.ForTrain})
	if err != nil || s.Train.Servers.Len() != len(all) {
		t.Errorf("%s: %v", set, err)
	}
}
