package box

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// opened are the packages that Spark needs to look into (its launcher gives them as --add-opens).
const opened = "java.base/java.lang java.base/java.lang.invoke java.base/java.lang.reflect java.base/java.io java.base/java.net " +
	"java.base/java.nio java.base/java.util java.base/java.util.concurrent java.base/java.util.concurrent.atomic " +
	"java.base/jdk.internal.ref java.base/sun.nio.ch java.base/sun.nio.cs java.base/sun.security.action " +
	"java.base/sun.util.calendar java.security.jgss/sun.security.krb5"

// writeHarness packs the compiled classes, the logging configuration and the web pages of HDFS into one JAR, whose
// manifest names the libraries, so that java -jar needs nothing else.
//
// The web pages come first on the class path in this way. Jetty would otherwise unpack them from the minicluster's
// JAR by walking through all of its 40,000 entries, once for every server.
func writeHarness(target, classes, libraries string, names []string) error {
	f, err := os.Create(target)
	if err != nil {
		return err
	}
	defer f.Close()
	w := zip.NewWriter(f)
	if err := addManifest(w, libraries, names); err != nil {
		return err
	}
	if err := w.AddFS(os.DirFS(classes)); err != nil {
		return err
	}
	logging, err := harness.ReadFile("harness/log4j2.properties")
	if err != nil {
		return err
	}
	if err := add(w, "log4j2.properties", logging); err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, minicluster) {
			if err := copyWebapps(w, filepath.Join(libraries, name)); err != nil {
				return err
			}
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func addManifest(w *zip.Writer, libraries string, names []string) error {
	// Both folders stay beside each other, wherever the cache is.
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = path.Join("..", filepath.Base(libraries), name)
	}
	text := "Manifest-Version: 1.0\r\n" +
		attribute("Main-Class", "dkpipe.box.Harness") +
		attribute("Add-Opens", opened) +
		attribute("Class-Path", strings.Join(paths, " ")) + "\r\n"
	return add(w, "META-INF/MANIFEST.MF", []byte(text))
}

// attribute writes one line of a manifest, folded to 72 bytes as the JAR specification asks.
func attribute(name, value string) string {
	line := name + ": " + value
	var b strings.Builder
	for limit := 72; len(line) > limit; limit = 71 { // a continuation begins with a space
		b.WriteString(line[:limit] + "\r\n ")
		line = line[limit:]
	}
	return b.String() + line + "\r\n"
}

func add(w *zip.Writer, name string, content []byte) error {
	f, err := w.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return err
}

func copyWebapps(w *zip.Writer, jar string) error {
	r, err := zip.OpenReader(jar)
	if err != nil {
		return err
	}
	defer r.Close()
	found := false
	for _, f := range r.File {
		if !strings.HasPrefix(f.Name, "webapps/") {
			continue
		}
		found = true
		if err := copyEntry(w, f); err != nil {
			return fmt.Errorf("%s in %s: %w", f.Name, jar, err)
		}
	}
	if !found {
		return fmt.Errorf("%s holds no webapps", jar)
	}
	return nil
}

// copyEntry copies the compressed bytes as they are. Folders have entries of their own, by which HDFS finds them.
func copyEntry(w *zip.Writer, f *zip.File) error {
	if f.FileInfo().IsDir() {
		_, err := w.Create(f.Name)
		return err
	}
	raw, err := f.OpenRaw()
	if err != nil {
		return err
	}
	header := f.FileHeader
	dst, err := w.CreateRaw(&header)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, raw)
	return err
}
