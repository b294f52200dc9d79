package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// badEnd is a way in which a job on Spark and HDFS cannot work, and all that dkpipe says about it.
type badEnd struct {
	name string
	spec []string // pairs of old and new text of the job
	set  string   // for --set
	env  []string // beside the cluster's
	code int
	want string // kind, message and next step, as says gives them
}

// TestBadEndsOnTheCluster checks message, next step and exit code of everything that goes wrong between dkpipe, Spark and
// HDFS, that it is told soon, and that nothing is left.
func TestBadEndsOnTheCluster(t *testing.T) {
	t.Parallel()
	c := onSmallCluster(t)
	good := strings.Join(lines(t, filepath.Join(c.dir, "job.yaml")), "\n")
	for _, b := range append(c.badServers(t), append(c.badStores(t), c.badStatements()...)...) {
		t.Run(b.name, func(t *testing.T) {
			text := good
			for i := 0; i < len(b.spec); i += 2 {
				if !strings.Contains(text, b.spec[i]) {
					t.Fatalf("the job has no %q", b.spec[i])
				}
				text = strings.Replace(text, b.spec[i], b.spec[i+1], 1)
			}
			write("job.yaml", text)(t, c.dir)
			args := []string{"run", "-f", "job.yaml"}
			if b.set != "" {
				args = append(args, "--set", b.set)
			}
			other := *c
			other.env = append(c.env[:len(c.env):len(c.env)], b.env...)
			begin := time.Now()
			r := other.run(t, b.code, args...)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
			if got := c.says(r); got != b.want {
				t.Errorf("got  %s\nwant %s", got, b.want)
			}
			for _, root := range []string{"/dataset", "/model"} {
				for _, name := range c.list(t, c.root+root) {
					if name != "_epochs" && name != "_pins" {
						t.Errorf("%s is left in %s", name, root)
					}
				}
			}
		})
	}
}

// changing are the parts of messages that differ from run to run, and what stands for them in what a test expects.
var changing = []struct {
	part *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`\.stage-v[-0-9a-z]+`), "STAGE"},
	{regexp.MustCompile(`\.tmp-[-0-9a-z]+`), "TEMPORARY"},
	{regexp.MustCompile(`_epochs/\d+`), "_epochs/N"},
	{regexp.MustCompile(`part-\d+-[-0-9a-z.]+\.parquet`), "part-N.parquet"},
	{regexp.MustCompile(`(error reading server preface|initial http2 frame from server is not a settings frame|write tcp \S+: write): .*`), "no HTTP/2"},
}

// says gives kind, message and next step of a failure without what differs from run to run.
func (c *smallCluster) says(r result) string {
	if r.Error == nil {
		return "no error"
	}
	text := fmt.Sprintf("%s: %s\nnext: %s", r.Error.Kind, r.Error.Message, r.Error.Hint)
	path := strings.TrimPrefix(c.root, "hdfs://")
	for _, root := range []string{c.root, c.box.HDFS + path, path} { // as written, as errors name it, as the NameNode says it
		text = strings.ReplaceAll(text, root, "ROOT")
	}
	for _, m := range changing {
		text = m.part.ReplaceAllString(text, m.as)
	}
	return text
}

// closed gives an address where nothing listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// badServers are addresses of Spark at which there is none.
func (c *smallCluster) badServers(t *testing.T) []badEnd {
	web := httptest.NewServer(http.NotFoundHandler())
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(func() { web.Close(); secure.Close() })
	const (
		notSpark = "\nnext: what answers there is no plaintext Spark Connect server: check the port (15002 unless it was changed); if it speaks TLS, add ;use_ssl=true"
		isWeb    = "\nnext: a web server answers there; the port of Spark Connect is 15002 unless it was changed"
	)
	at := func(address string) []string { return []string{"SPARK_REMOTE=sc://" + address} }
	return []badEnd{
		{name: "nothing listens", env: at(closed(t)), code: 4,
			want: "unreachable: connecting: Spark at sc://ADDRESS does not answer: connection refused\nnext: start the server, or check host and port; the port of Spark Connect is 15002 unless it was changed"},
		{name: "no such host", env: at("spark.invalid:15002/;use_ssl=true"), code: 4,
			want: "unreachable: connecting: Spark at sc://spark.invalid:15002 does not answer: no such host\nnext: check the spelling of the host"},
		{name: "a web server", env: at(web.Listener.Addr().String()), code: 4,
			want: "unreachable: connecting: Spark at sc://ADDRESS does not answer: no HTTP/2" + isWeb},
		{name: "the namenode", env: at(strings.TrimPrefix(c.box.HDFS, "hdfs://")), code: 4,
			want: "unreachable: connecting: Spark at sc://ADDRESS does not answer: no HTTP/2" + notSpark},
		{name: "plaintext to a server with TLS", env: at(secure.Listener.Addr().String()), code: 4,
			want: "unreachable: connecting: Spark at sc://ADDRESS does not answer: no HTTP/2" + notSpark},
		{name: "TLS to a server without", env: []string{"SPARK_REMOTE=" + c.box.Spark + "/;use_ssl=true"}, code: 4,
			want: "unreachable: connecting: Spark at sc://ADDRESS does not answer: tls: first record does not look like a TLS handshake\nnext: the server speaks plaintext: leave use_ssl=true out, or use the port of its TLS proxy"},
		{name: "a web server with TLS", env: at(secure.Listener.Addr().String() + "/;use_ssl=true"), code: 4,
			want: "unreachable: connecting: Spark at sc://ADDRESS does not answer: remote error: tls: no application protocol\nnext: what answers there speaks TLS but no HTTP/2, so it is no Spark Connect server; check the port"},
		{name: "plaintext to another machine", env: at("spark.invalid:15002"), code: 2,
			want: "spec: SPARK_REMOTE: plaintext to spark.invalid, which is not this machine\nnext: add ;use_ssl=true, or ;use_ssl=false if plaintext is meant"},
		{name: "a token in plaintext", env: at("spark.invalid:15002/;token=hush;use_ssl=false"), code: 2,
			want: "spec: SPARK_REMOTE: the token would go to spark.invalid in plaintext\nnext: leave ;use_ssl=false out, or allow it: spark: {insecure_plaintext: true}"},
		{name: "parameters without a slash", env: at("127.0.0.1:15002;token=hush"), code: 2,
			want: "spec: SPARK_REMOTE: the host is followed by parameters without a slash\nnext: write sc://host:15002/;key=value"},
		{name: "no port", env: at("127.0.0.1:99999"), code: 2,
			want: "spec: SPARK_REMOTE: \"99999\" is no port\nnext: a port is a number from 1 to 65535; Spark Connect's own is 15002"},
		{name: "an unknown parameter", env: at("127.0.0.1:15002/;tokn=hush"), code: 2,
			want: "spec: SPARK_REMOTE: unknown parameter \"tokn\"\nnext: did you mean token?"},
		{name: "no host in the spec", set: "spark.remote='sc://:15002'", code: 2,
			want: "spec: --set spark.remote=…: the host is empty\nnext: write sc://host:15002"},
		{name: "another scheme", env: []string{"SPARK_REMOTE=spark://127.0.0.1:7077"}, code: 2,
			want: "spec: SPARK_REMOTE: want a Spark Connect address, sc://host:15002\nnext: correct or unset SPARK_REMOTE"},
		{name: "another scheme in the spec", set: "spark.remote=spark://127.0.0.1:7077", code: 2,
			want: "spec: --set spark.remote=…: want a Spark Connect address, sc://host:15002\nnext: write sc://host:15002"},
	}
}

// badStores are HDFS that are not there.
func (c *smallCluster) badStores(t *testing.T) []badEnd {
	conf := func(core string) string {
		dir := t.TempDir()
		write("core-site.xml", "<configuration>"+core+"</configuration>")(t, dir)
		return dir
	}
	const next = "\nnext: is the NameNode running, and are host and port (or HADOOP_CONF_DIR) right?"
	empty, torn := t.TempDir(), conf("<property><name>fs.defaultFS")
	east := conf("<property><name>dfs.nameservices</name><value>east</value></property>")
	nowhere := strings.Replace(c.root, "hdfs://", "hdfs://"+closed(t), 1)
	spark := strings.Replace(c.root, "hdfs://", "hdfs://"+strings.TrimPrefix(c.box.Spark, "sc://"), 1)
	return []badEnd{
		{name: "no namenode there", set: "output.path=" + nowhere + "/model", code: 4,
			want: "unreachable: connect to hdfs://ADDRESS: no connection to a NameNode: ADDRESS: connect: connection refused" + next},
		{name: "Spark's port as the namenode's", set: "output.path=" + spark + "/model", code: 4,
			want: "unreachable: connect to hdfs://ADDRESS: ADDRESS: the server closed the connection: connection reset by peer" + next},
		{name: "an unknown name service", set: "output.path=hdfs://nosuch.invalid/model", code: 4,
			want: "unreachable: connect to hdfs://nosuch.invalid: no connection to a NameNode: nosuch.invalid:8020: no such host\nnext: if nosuch.invalid is a name service, HADOOP_CONF_DIR has none of that name; a host is written hdfs://host:port/path"},
		{name: "another name service", env: []string{"HADOOP_CONF_DIR=" + east}, set: "output.path=hdfs://nosuch.invalid/model", code: 4,
			want: "unreachable: connect to hdfs://nosuch.invalid: no connection to a NameNode: nosuch.invalid:8020: no such host\nnext: if nosuch.invalid is a name service, the configuration has east; a host is written hdfs://host:port/path"},
		{name: "a name service without addresses", env: []string{"HADOOP_CONF_DIR=" + east}, set: "output.path=hdfs://east/model", code: 2,
			want: "usage: read " + east + ": dfs.namenode.rpc-address.east: it is not set, so the name service east has no address\nnext: correct the property"},
		{name: "a folder without a configuration", env: []string{"HADOOP_CONF_DIR=" + empty}, code: 2,
			want: "usage: read " + empty + ": neither core-site.xml nor hdfs-site.xml is there\nnext: HADOOP_CONF_DIR should name the folder with Hadoop's configuration; unset it to do without"},
		{name: "no configuration", env: []string{"HADOOP_CONF_DIR="}, code: 2,
			want: "usage: resolve hdfs:///: no HDFS is configured as the default\nnext: set HADOOP_CONF_DIR to the folder with core-site.xml, or write hdfs://host:port/path"},
		{name: "a configuration that is torn", env: []string{"HADOOP_CONF_DIR=" + torn}, code: 2,
			want: "usage: read " + torn + "/core-site.xml: XML syntax error on line 1: element <name> closed by </configuration>\nnext: correct the file, or point HADOOP_CONF_DIR elsewhere"},
		{name: "no right to write", env: []string{"HADOOP_USER_NAME=eve"}, code: 4,
			want: "denied: create ROOT/model/_epochs/N: Permission denied: user=eve, access=WRITE, inode=\"ROOT/model/_epochs\":" + c.box.User + ":supergroup:drwxr-xr-x\nnext: give this user the right (hdfs dfs -chmod, -chown, -setfacl), or set HADOOP_USER_NAME to one that has it"},
	}
}

// badStatements are sources and plans that Spark refuses.
func (c *smallCluster) badStatements() []badEnd {
	sql := func(lines ...string) []string {
		return []string{`source: {parquet: "` + c.root + `/raw"}`, "source:\n  sql: |\n    " + strings.Join(lines, "\n    ")}
	}
	here := "SELECT id, v, label FROM parquet.`" + c.root + "/raw`"
	const (
		correct = "\nnext: correct the statement"
		value   = "\nnext: correct the value, or filter the row out"
	)
	return []badEnd{
		{name: "a table that is not there", spec: sql("SELECT *", "FROM nosuch.events"), code: 2,
			want: "spec: job.yaml:2:1: source: [TABLE_OR_VIEW_NOT_FOUND] The table or view `nosuch`.`events` cannot be found. Verify the spelling and correctness of the schema and catalog. SQLSTATE: 42P01 (source.sql, line 2, column 6: nosuch.events)" +
				"\nnext: check the name in source.table or source.sql; SHOW TABLES lists what there is"},
		{name: "source.table that is not there", spec: []string{`{parquet: "` + c.root + `/raw"}`, "{table: nosuch}"}, code: 2,
			want: "spec: job.yaml:2:1: source: [TABLE_OR_VIEW_NOT_FOUND] The table or view `nosuch` cannot be found. Verify the spelling and correctness of the schema and catalog. SQLSTATE: 42P01 (source.table, line 1, column 1: nosuch)" +
				"\nnext: check the name in source.table or source.sql; SHOW TABLES lists what there is"},
		{name: "a mistake of grammar", spec: sql("SELECT id, v, label", "FORM events WHERE id > 3"), code: 2,
			want: "spec: job.yaml:2:1: source: [PARSE_SYNTAX_ERROR] Syntax error at or near 'events'. SQLSTATE: 42601 (source.sql, line 2, column 6)" + correct},
		{name: "a second statement", spec: sql(here+";", "DROP TABLE events"), code: 2,
			want: "spec: job.yaml:2:1: source: [PARSE_SYNTAX_ERROR] Syntax error at or near 'DROP': extra input 'DROP'. SQLSTATE: 42601 (source.sql, line 2, column 1)" + correct},
		{name: "no query", spec: sql("DROP TABLE events"), code: 2,
			want: "spec: job.yaml:2:1: source: [PARSE_SYNTAX_ERROR] Syntax error at or near 'events': extra input 'events'. SQLSTATE: 42601 (source.sql, line 1, column 12)" + correct},
		{name: "a column that the source lacks", spec: sql("SELECT id, v, lable", "FROM ("+here+")"), code: 2,
			want: "missing_column: job.yaml:2:1: source: [UNRESOLVED_COLUMN.WITH_SUGGESTION] A column, variable, or function parameter with name `lable` cannot be resolved. Did you mean one of the following? [`label`, `id`, `v`]. SQLSTATE: 42703 (source.sql, line 1, column 15: lable)" +
				"\nnext: check the column's name"},
		{name: "a column that the transform lacks", spec: []string{"input: label", "input: lable"}, code: 2,
			want: "missing_column: one_hot: there is no column \"lable\"; did you mean \"label\"?\nnext: "},
		{name: "a kept column that is not there", spec: []string{"keep: [id]", "keep: [idd]"}, code: 2,
			want: "missing_column: columns.keep: there is no column \"idd\"\nnext: did you mean \"id\"?"},
		{name: "a function that is not there", spec: sql("SELECT id, v, lable(label) AS label", "FROM ("+here+")"), code: 2,
			want: "spec: job.yaml:2:1: source: [UNRESOLVED_ROUTINE] Cannot resolve routine `lable` on search path [`system`.`builtin`, `system`.`session`, `spark_catalog`.`default`]. SQLSTATE: 42883 (source.sql, line 1, column 15: lable(label))" + correct},
		{name: "a cast of what is no number", spec: sql("SELECT id, v,", "  CAST(IF(id = 300, 'x', '1') AS INT) AS label", "FROM ("+here+")"), code: 3,
			want: "data: job.yaml:2:1: writing shards: [CAST_INVALID_INPUT] The value 'x' of the type \"STRING\" cannot be cast to \"INT\" because it is malformed. Correct the value as per the syntax, or change its target type. " +
				"Use `try_cast` to tolerate malformed input and return NULL instead. SQLSTATE: 22018 (source.sql, line 2, column 3: CAST(IF(id = 300, 'x', '1') AS INT))" + value},
		{name: "a division by zero", spec: sql("SELECT id, v, CAST(0 * id / (id - 300) AS INT) AS label", "FROM ("+here+")"), code: 3,
			want: "data: job.yaml:2:1: writing shards: [DIVIDE_BY_ZERO] Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead. If necessary set \"spark.sql.ansi.enabled\" to \"false\" to bypass this error. " +
				"SQLSTATE: 22012 (source.sql, line 1, column 20: 0 * id / (id - 300))" + value},
		{name: "a path that is not there", spec: []string{"/raw", "/nosuch"}, code: 3,
			want: "data: source: [PATH_NOT_FOUND] Path does not exist: ROOT/nosuch. SQLSTATE: 42K03\nnext: check the path in source; it must be visible to Spark's executors, for example hdfs://namenode:8020/data.csv"},
		{name: "no rows", spec: sql(here, "WHERE id < 0"), code: 3,
			want: "data: empty source: sql: columns, but no rows\nnext: check that the source was written to its end"},
		{name: "a label out of range", spec: []string{"size: 3", "size: 2"}, code: 3,
			want: "data: part-N.parquet, the row with id 218: one_hot: label is outside 0..1: column \"label\" is 2\nnext: correct the row, or set handle_invalid: skip (or keep, where the transformer has it) for one_hot"},
	}
}
