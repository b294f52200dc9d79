package box

import (
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Options says what a box consists of. The zero value with a Dir is one JVM with Spark and an HDFS of one datanode.
type Options struct {
	Dir  string // everything that the servers write goes here; made when missing, must be empty or that of a former box; plain letters
	Only string // "spark" or "hdfs" leaves the other out; empty: both

	Datanodes int    // 0: 1
	Heap      string // of the JVM that holds Spark, as for java -Xmx; empty: "1g"
	Separate  bool   // namenode, datanodes and Spark as processes of their own, which may be killed and stopped singly
	HA        bool   // two namenodes, the first active; not with Separate
	Optimize  bool   // compile what runs long as well as Java can: starts take 4 s of CPU more, long jobs half the time
	Executors int    // so many executor processes instead of threads within Spark's JVM

	SparkVersion string // such as "3.5.7"; empty: DefaultSpark. Spark 3.5 listens on all addresses of the machine

	User      string            // the superuser of HDFS; empty: $HADOOP_USER_NAME, else the user of this process
	SparkUser string            // whom Spark is for HDFS; empty: User
	Hadoop    map[string]string // properties for all servers and for the configuration that clients get
	Spark     map[string]string // properties of Spark that win over those of this package

	Cache   string        // where JARs are kept; empty: dkpipe/box below the user's cache folder
	Timeout time.Duration // how long a start may take, without the download; 0: 3 minutes

	// Supervisor is the command line of a process that calls Supervise. Up starts it with Dir as a further argument,
	// which only serves to tell boxes apart in a list of processes. Run does not need it.
	Supervisor []string `json:"-"`

	// Progress is called with a line of text whenever a longer step begins; nil: silence.
	Progress func(string) `json:"-"`
}

// State says how a box is.
type State string

// The states of a box.
const (
	Starting State = "starting"
	Running  State = "running"
	Stopped  State = "stopped" // by Down or by the end of the context
	Failed   State = "failed"  // Box.Error says why
)

// Box says where the servers of a box listen. It is the content of box.json.
type Box struct {
	Spark     string     `json:"spark,omitempty"` // sc://127.0.0.1:PORT
	HDFS      string     `json:"hdfs,omitempty"`  // hdfs://127.0.0.1:PORT, or hdfs://box with HA
	Datanodes []Datanode `json:"datanodes,omitempty"`
	Dir       string     `json:"dir"`
	PID       int        `json:"pid"` // of the supervisor

	State     State      `json:"state"`
	Error     string     `json:"error,omitempty"`
	Namenodes []Namenode `json:"namenodes,omitempty"`
	Processes []Process  `json:"processes,omitempty"` // the JVMs, without executors
	Conf      string     `json:"conf,omitempty"`      // folder with core-site.xml and hdfs-site.xml for clients
	User      string     `json:"user,omitempty"`      // the superuser of HDFS
	SparkUser string     `json:"spark_user,omitempty"`
}

// Datanode is one datanode: where it listens for readers and writers, and the folder below which its blocks are.
type Datanode struct {
	Address string `json:"address"`
	Dir     string `json:"dir"`
}

// Namenode is one namenode: the address of its RPC and of its web server.
type Namenode struct {
	Address string `json:"address"`
	HTTP    string `json:"http"`
}

// Process is one JVM: "jvm", or with Separate "namenode", "datanode0"... and "spark".
type Process struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
}

var heapSize = regexp.MustCompile(`^[1-9][0-9]*[kmgKMG]$`)

// complete checks the options and fills in defaults.
func (o Options) complete() (Options, error) {
	usage := func(message, hint string) (Options, error) {
		return Options{}, &Error{Kind: kindUsage, Message: message, Hint: hint}
	}
	if o.Dir == "" {
		return usage("a box needs a folder", "name one that is empty or does not exist yet")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Options{}, &Error{Kind: kindInternal, Message: "folder " + o.Dir, Err: err}
	}
	o.Dir = dir
	if i := strings.IndexFunc(filepath.ToSlash(dir), awkward); i >= 0 {
		return usage(fmt.Sprintf("folder %s: servers cannot work below a name with %q in it", dir, []rune(dir[i:])[0]),
			"take one of letters, digits and . _ - + = @")
	}
	if o.Datanodes == 0 {
		o.Datanodes = 1
	}
	if o.Heap == "" {
		o.Heap = "1g"
	}
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Minute
	}
	if o.User == "" {
		o.User = currentUser()
	}
	if o.SparkUser == "" {
		o.SparkUser = o.User
	}
	if _, err := releaseOf(o.SparkVersion); err != nil {
		return Options{}, err
	}
	o.Hadoop, o.Spark = maps.Clone(o.Hadoop), maps.Clone(o.Spark)
	switch {
	case o.Only != "" && o.Only != "spark" && o.Only != "hdfs":
		return usage("a box with only "+o.Only, `the choice is "spark" or "hdfs"`)
	case o.Datanodes < 0 || o.Datanodes > 32:
		return usage("the number of datanodes is out of range", "take 1 to 32")
	case o.Executors < 0 || o.Executors > 16:
		return usage("the number of executors is out of range", "take 0 (threads within Spark) to 16")
	case !heapSize.MatchString(o.Heap):
		return usage("heap "+o.Heap, "write it as 768m or 2g")
	case o.HA && o.Separate:
		return usage("two namenodes cannot be processes of their own", "take HA or Separate")
	}
	return o, nil
}

// awkward finds what becomes an escape in a URI, which datanodes take for a format (HDFS's FsDatasetCache), or
// separates folders in a list.
func awkward(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !letter && !strings.ContainsRune("/._-+=@:", r)
}

func (o Options) spark() bool { return o.Only != "hdfs" }
func (o Options) hdfs() bool  { return o.Only != "spark" }

func (o Options) progress(text string) {
	if o.Progress != nil {
		o.Progress(text)
	}
}

// currentUser is the name that Hadoop's client would use.
func currentUser() string {
	if name := os.Getenv("HADOOP_USER_NAME"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "box"
}
