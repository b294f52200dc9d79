package hdfs

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dkpipe/hdfsio"
)

// Limits of a configuration. Real ones have some hundred properties of some hundred bytes.
const (
	maxConfFile  = 16 << 20
	maxConfProps = 20_000
	maxConfDepth = 8  // files included by files
	maxConfFiles = 64 // included in all
)

// Conf is a Hadoop configuration: the properties of core-site.xml and hdfs-site.xml. The zero value is empty, which is
// a configuration too: hdfs://host:port/p works with it.
type Conf struct {
	Dir string // where it was read, or empty

	env   func(string) string
	props map[string]property
}

type property struct {
	value string
	final bool
}

// siteFiles are read in this order; a later file wins over an earlier one, unless that said final.
var siteFiles = []string{"core-site.xml", "hdfs-site.xml"}

// renamed maps the names that old files still use to those of today.
var renamed = map[string]string{
	"fs.default.name":    "fs.defaultFS",
	"dfs.block.size":     "dfs.blocksize",
	"dfs.umask":          "fs.permissions.umask-mode",
	"dfs.umaskmode":      "fs.permissions.umask-mode",
	"dfs.socket.timeout": "dfs.client.socket-timeout",
}

// Load reads the configuration in HADOOP_CONF_DIR, else the one in HADOOP_HOME/etc/hadoop. Without either variable,
// and when the second folder has no such file, the configuration is empty. A HADOOP_CONF_DIR without a file in it is an
// error, and so is a file that cannot be read: guessing another cluster would be worse.
func Load(env func(string) string) (*Conf, error) {
	c := &Conf{env: env, props: make(map[string]property)}
	dir, must := env("HADOOP_CONF_DIR"), true
	if dir == "" {
		home := env("HADOOP_HOME")
		if home == "" {
			return c, nil
		}
		dir, must = filepath.Join(home, "etc", "hadoop"), false
	}
	r := confReader{conf: c}
	found := false
	for _, name := range siteFiles {
		err := r.file(filepath.Join(dir, name), 0)
		if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errIncluded) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = true
	}
	if !found && must {
		return nil, &hdfsio.Error{Op: "read", Path: dir, Kind: hdfsio.KindUsage,
			Err:  fmt.Errorf("neither %s nor %s is there", siteFiles[0], siteFiles[1]),
			Hint: "HADOOP_CONF_DIR should name the folder with Hadoop's configuration; unset it to do without"}
	}
	if found {
		c.Dir = dir
	}
	return c, nil
}

// Parse reads one configuration file from r, for callers that have it elsewhere than in a folder. Files that it
// includes are not served.
func Parse(r io.Reader, env func(string) string) (*Conf, error) {
	c := &Conf{env: env, props: make(map[string]property)}
	cr := confReader{conf: c}
	if err := cr.decode(r, "", 0); err != nil {
		return nil, confError("configuration", err)
	}
	return c, nil
}

var errIncluded = errors.New("an included file")

func confError(path string, err error) error {
	kind := hdfsio.KindUsage
	if errors.Is(err, fs.ErrPermission) {
		kind = hdfsio.KindDenied
	}
	return &hdfsio.Error{Op: "read", Path: path, Kind: kind, Err: err, Hint: "correct the file, or point HADOOP_CONF_DIR elsewhere"}
}

// confReader fills one Conf from files that may include others.
type confReader struct {
	conf  *Conf
	files int
}

// file reads one file. Its error wraps fs.ErrNotExist when there is none.
func (r *confReader) file(path string, depth int) error {
	if r.files++; r.files > maxConfFiles {
		return confError(path, fmt.Errorf("more than %d files are included", maxConfFiles))
	}
	f, err := os.Open(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return confError(path, err)
	}
	defer f.Close()
	err = r.decode(f, filepath.Dir(path), depth)
	if err == nil {
		return nil
	}
	if hdfsio.KindOf(err) != hdfsio.KindInternal { // of an included file, and complete
		return fmt.Errorf("%w: %w", errIncluded, err)
	}
	return confError(path, err)
}

// decode reads <configuration><property>..., in the order of the text.
func (r *confReader) decode(in io.Reader, dir string, depth int) error {
	limited := &io.LimitedReader{R: in, N: maxConfFile + 1}
	d := xml.NewDecoder(limited)
	d.Entity = map[string]string{} // nothing but the five of XML
	d.CharsetReader = asciiCharsets
	open := false // inside <configuration>
	for {
		tok, err := d.Token()
		switch {
		case limited.N <= 0:
			return fmt.Errorf("the file is larger than %d bytes", maxConfFile)
		case err == io.EOF && !open:
			return nil
		case err != nil:
			return err
		}
		switch t := tok.(type) {
		case xml.EndElement:
			open = false
		case xml.StartElement:
			if !open && t.Name.Local == "configuration" {
				open = true
				continue
			}
			if err := r.element(d, t, open, dir, depth); err != nil {
				return err
			}
		}
	}
}

// element reads what stands inside <configuration>: properties and includes.
func (r *confReader) element(d *xml.Decoder, t xml.StartElement, open bool, dir string, depth int) error {
	line, _ := d.InputPos()
	switch {
	case !open:
		return fmt.Errorf("line %d: <%s> where <configuration> is expected", line, t.Name.Local)
	case t.Name.Local == "property":
		return r.property(d, t, line)
	case t.Name.Local == "include":
		return r.include(d, t, dir, depth)
	case t.Name.Local == "configuration": // Hadoop takes nested ones for an include that was resolved
		return r.nested(d, dir, depth)
	}
	return d.Skip()
}

// nested reads a <configuration> within one.
func (r *confReader) nested(d *xml.Decoder, dir string, depth int) error {
	if depth >= maxConfDepth {
		return fmt.Errorf("configurations are nested more than %d deep", maxConfDepth)
	}
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			if err := r.element(d, t, true, dir, depth+1); err != nil {
				return err
			}
		}
	}
}

func (r *confReader) property(d *xml.Decoder, t xml.StartElement, line int) error {
	var p struct {
		Name      string  `xml:"name"`
		Value     *string `xml:"value"`
		Final     string  `xml:"final"`
		NameAttr  string  `xml:"name,attr"`
		ValueAttr *string `xml:"value,attr"`
		FinalAttr string  `xml:"final,attr"`
	}
	if err := d.DecodeElement(&p, &t); err != nil {
		return err
	}
	if p.Name == "" {
		p.Name = p.NameAttr
	}
	if p.Value == nil {
		p.Value = p.ValueAttr
	}
	name := strings.TrimSpace(p.Name)
	if name == "" {
		return fmt.Errorf("line %d: a property without a name", line)
	}
	if to, old := renamed[name]; old {
		name = to
	}
	if p.Value == nil || r.conf.props[name].final {
		return nil
	}
	if len(r.conf.props) >= maxConfProps {
		return fmt.Errorf("line %d: more than %d properties", line, maxConfProps)
	}
	final := strings.TrimSpace(p.Final+p.FinalAttr) == "true"
	r.conf.props[name] = property{value: *p.Value, final: final}
	return nil
}

// include reads <xi:include href="FILE"/>, a file beside this one or with an absolute name.
func (r *confReader) include(d *xml.Decoder, t xml.StartElement, dir string, depth int) error {
	href, fallback := "", false
	for _, a := range t.Attr {
		if a.Name.Local == "href" {
			href = a.Value
		}
	}
	for { // to the end of the element; a fallback allows the file to be absent
		tok, err := d.Token()
		if err != nil {
			return err
		}
		if s, ok := tok.(xml.StartElement); ok {
			fallback = fallback || s.Name.Local == "fallback"
			if err := d.Skip(); err != nil {
				return err
			}
		} else if _, ok := tok.(xml.EndElement); ok {
			break
		}
	}
	href = strings.TrimPrefix(href, "file://")
	switch {
	case href == "" || strings.Contains(href, "://"):
		return fmt.Errorf("include of %q: only files can be included", href)
	case dir == "":
		return fmt.Errorf("include of %q: a configuration without a folder cannot include files", href)
	case depth >= maxConfDepth:
		return fmt.Errorf("include of %q: files include each other more than %d deep", href, maxConfDepth)
	}
	if !filepath.IsAbs(href) {
		href = filepath.Join(dir, href)
	}
	err := r.file(href, depth+1)
	if fallback && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// asciiCharsets accepts the encodings that agree with UTF-8 on what stands in such files.
func asciiCharsets(charset string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(charset) {
	case "utf-8", "us-ascii", "ascii", "iso-8859-1", "latin1":
		return in, nil
	}
	return nil, fmt.Errorf("the encoding %s is not served; write UTF-8", charset)
}

// Get gives the value of a property with its variables replaced, or the empty string. Deprecated names work.
func (c *Conf) Get(name string) (string, error) {
	if to, old := renamed[name]; old {
		name = to
	}
	p, ok := c.props[name]
	if !ok {
		return "", nil
	}
	v, err := c.expand(p.value)
	if err != nil {
		return "", c.invalid(name, err)
	}
	return strings.TrimSpace(v), nil
}

// Names lists the properties that are set, sorted.
func (c *Conf) Names() []string { return slices.Sorted(maps.Keys(c.props)) }

// invalid is the error of a property whose value is of no use.
func (c *Conf) invalid(name string, err error) error {
	where := c.Dir
	if where == "" {
		where = "configuration"
	}
	return &hdfsio.Error{Op: "read", Path: where, Kind: hdfsio.KindUsage, Err: fmt.Errorf("%s: %w", name, err),
		Hint: "correct the property"}
}

// list gives a property that is a list with commas.
func (c *Conf) list(name string) ([]string, error) {
	v, err := c.Get(name)
	if err != nil {
		return nil, err
	}
	var out []string
	for e := range strings.SplitSeq(v, ",") {
		if e = strings.TrimSpace(e); e != "" && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out, nil
}

// boolean gives a property that is true or false; anything else is the default, as in Hadoop.
func (c *Conf) boolean(name string, otherwise bool) (bool, error) {
	v, err := c.Get(name)
	switch strings.ToLower(v) {
	case "true":
		return true, err
	case "false":
		return false, err
	}
	return otherwise, err
}

// size gives a property that counts bytes, with Hadoop's binary suffixes k, m, g, t; 0 when it is not set.
func (c *Conf) size(name string) (int64, error) {
	v, err := c.Get(name)
	if err != nil || v == "" {
		return 0, err
	}
	digits, shift := v, 0
	if i := strings.IndexByte("kmgt", v[len(v)-1]|0x20); i >= 0 {
		digits, shift = v[:len(v)-1], 10*(i+1)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1<<50>>shift {
		return 0, c.invalid(name, fmt.Errorf("%q is not a number of bytes", v))
	}
	return n << shift, nil
}

// milliseconds gives a property that counts milliseconds, or has a suffix ms, s, m, h; 0 when it is not set.
func (c *Conf) milliseconds(name string) (time.Duration, error) {
	v, err := c.Get(name)
	if err != nil || v == "" {
		return 0, err
	}
	if n, err := strconv.ParseInt(v, 10, 32); err == nil && n >= 0 {
		return time.Duration(n) * time.Millisecond, nil
	}
	if d, err := time.ParseDuration(v); err == nil && d >= 0 && d < 24*time.Hour {
		return d, nil
	}
	return 0, c.invalid(name, fmt.Errorf("%q is not a time", v))
}
