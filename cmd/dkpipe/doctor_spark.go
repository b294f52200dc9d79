package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"dkpipe/hdfsio/hdfs"
	"dkpipe/pipeline"
	"dkpipe/sparkconn"
)

// checkSpark looks at the Spark Connect server. When it answers, the session stays open for other checks.
func (x *examination) checkSpark(ctx context.Context) {
	remote, err := sparkconn.ParseRemote(x.spec.Spark.Remote)
	if err != nil {
		x.add(failedCheck("spark", remoteAt(x.spec.Spark.Pos, err)))
		return
	}
	port := portsCheck(ctx, "spark port", "start the server, or check host and port; the port of Spark Connect is 15002 unless it was changed", []string{remote.Address()})
	x.add(port)
	if port.Status == "fail" {
		return
	}
	s, err := x.app.dialSpark(ctx, x.spec.Spark, sparkconn.Options{DialTimeout: checkTime - portTime, Patience: portTime})
	if err != nil {
		x.fail(ctx, "spark", err)
		return
	}
	x.session = s
	x.add(versionCheck(s.Version(), s.Remote()))
}

// checkDriver looks at the driver's clock and user.
func (x *examination) checkDriver(ctx context.Context) {
	before := time.Now()
	if now, err := x.session.Now(ctx); err != nil {
		x.fail(ctx, "spark clock", err)
	} else {
		x.add(clockCheck("spark clock", "its driver's", now, before, time.Now()))
	}
	user, err := x.session.StoreUser(ctx)
	switch {
	case pipelineKind(err) == pipeline.Unsupported:
		x.add(warnCheck("spark user", "the tries below show what that user may do", "not told: %v", err))
	case err != nil:
		x.fail(ctx, "spark user", err)
	default:
		x.sparkUser = user
		x.add(okCheck("spark user", "for HDFS Spark is the user %s", user))
	}
}

// versionCheck says whether a version of Spark is one of those that dkpipe is tested with.
func versionCheck(version, remote string) check {
	switch {
	case strings.HasPrefix(version, "4."), strings.HasPrefix(version, "3.5."):
		return okCheck("spark", "Spark %s at %s", version, remote)
	}
	return warnCheck("spark", "it may work; dkpipe is made for Spark 3.5 and 4", "Spark %s at %s", version, remote)
}

// checkSettings looks at what changes how Spark counts and writes.
func (x *examination) checkSettings(ctx context.Context) {
	const ansi = "spark.sql.ansi.enabled"
	conf, err := x.session.Conf(ctx, ansi)
	switch {
	case err != nil:
		x.fail(ctx, "spark ansi", err)
	case conf[ansi] != "true":
		x.add(check{Name: "spark ansi", Status: "fail", Kind: pipeline.Unsupported, Detail: "the server keeps ANSI mode off: wrong numbers would become NULL without a word",
			Hint: "allow sessions to set " + ansi})
	default:
		x.add(okCheck("spark ansi", "on in dkpipe's session"))
	}
	avro, err := x.session.HasAvro(ctx)
	switch {
	case err != nil:
		x.fail(ctx, "spark avro", err)
	case !avro:
		x.add(warnCheck("spark avro", "start the server with --packages org.apache.spark:spark-avro_2.13:"+x.session.Version()+" (_2.12 for Scala 2.12)",
			"spark-avro is not on the server: vectors are written as lists, which are read at half the speed"))
	default:
		x.add(okCheck("spark avro", "answers: vectors are packed"))
	}
}

// checkTry lets Spark write into the dataset's folder, or the one where it would be made.
func (x *examination) checkTry(ctx context.Context, root, at place) {
	t := x.newTry(x.session, root, at, fmt.Sprintf("doctor-%d", time.Now().UnixNano()))
	t.looking = true
	err := t.run(ctx)
	if t.user == "" {
		t.user = x.sparkUser
	}
	name := "dataset rights"
	switch h, onHDFS := root.fs.(*hdfs.FS); {
	case err != nil && t.closed:
		x.add(okCheck(name, "Spark (%s) may not enter yet; %s is dkpipe's (%s), who will let it in", t.user, at.path, t.hdfs.User()))
	case err != nil:
		x.fail(ctx, name, err)
	case !onHDFS:
		x.add(okCheck(name, "what Spark writes there, dkpipe reads, renames and removes"))
	case !t.two():
		x.add(okCheck(name, "Spark and dkpipe are both the HDFS user %s", h.User()))
	default:
		x.add(okCheck(name, "what Spark (%s) writes there, dkpipe (%s) reads, renames and removes", t.user, h.User()))
	}
}

// executorTasks is how many tasks try to connect back.
const executorTasks = 4

// checkExecutors listens for a moment and lets Spark's executors connect: workers that run there need that.
func (x *examination) checkExecutors(ctx context.Context) {
	const name = "executors"
	const hint = "workers on other machines need it; those of launch in-process and process do not"
	remote, err := sparkconn.ParseRemote(x.spec.Spark.Remote)
	if err != nil {
		return // said before
	}
	host, err := addressTowards(remote.Address())
	if err != nil {
		x.add(warnCheck(name, hint, "not checked: %v", err))
		return
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		x.add(warnCheck(name, hint, "not checked: %v", err))
		return
	}
	var b [8]byte
	rand.Read(b[:]) // never fails
	word := hex.EncodeToString(b[:])
	heard := listenFor(l, word)
	callers, err := x.session.ConnectBack(ctx, host, l.Addr().(*net.TCPAddr).Port, executorTasks, word)
	_ = l.Close()
	n := heard()
	if err != nil {
		x.add(warnCheck(name, hint, "not checked whether they reach this machine at %s: %v", host, err))
		return
	}
	var hosts, deaf []string
	for _, c := range callers {
		if !slices.Contains(hosts, c.Host) {
			hosts = append(hosts, c.Host)
		}
		if !c.OK && !slices.Contains(deaf, c.Host) {
			deaf = append(deaf, c.Host)
		}
	}
	if len(deaf) > 0 || n < len(callers) || n == 0 {
		x.add(warnCheck(name, "look at firewalls between them and here; "+hint, "%d of %d tasks reached this machine at %s; not from %s",
			n, executorTasks, host, strings.Join(deaf, ", ")))
		return
	}
	x.add(okCheck(name, "%d of %d tasks reached this machine at %s, from %s", n, executorTasks, host, strings.Join(hosts, ", ")))
}

// addressTowards is the address of this machine that packets to another one carry. No packet is sent.
func addressTowards(address string) (string, error) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return host, err
}

// listenFor counts the connections that say the word, until the listener is closed.
func listenFor(l net.Listener, word string) (count func() int) {
	var mu sync.Mutex
	var work sync.WaitGroup
	n := 0
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				_ = conn.SetReadDeadline(time.Now().Add(portTime))
				line, _ := bufio.NewReader(io.LimitReader(conn, int64(len(word)+1))).ReadString('\n')
				if strings.TrimSpace(line) == word {
					mu.Lock()
					n++
					mu.Unlock()
				}
			})
		}
	})
	return func() int {
		work.Wait()
		return n
	}
}
