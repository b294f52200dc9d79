package box

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Names of the processes. One JVM holds everything, or there is one for each of the others.
const (
	allInOne = "jvm"
	namenode = "namenode"
	datanode = "datanode" // with its number
	spark    = "spark"
)

// launcher makes the command lines of the processes.
type launcher struct {
	o          Options
	jars       Jars
	newArchive string // where to leave an archive of the classes that were loaded; empty: use the one of jars
}

func (l launcher) dir(name ...string) string {
	return filepath.Join(append([]string{l.o.Dir, dataDir}, name...)...)
}

// java gives the command of one process. The serial collector keeps starts short on few cores; the heap of a box is
// too small for others to pay.
func (l launcher) java(heap string, args []string) *exec.Cmd {
	flags := []string{"-Xmx" + heap, l.compiler(), "-XX:+UseSerialGC",
		l.archiveFlag(), "-Xlog:disable", "-Xlog:all=warning:stderr", // the standard output is for answers
		"-XX:-UsePerfData", // else a file in the system's temporary folder
		"-Djava.io.tmpdir=" + l.dir("tmp"), "-Djava.net.preferIPv4Stack=true",
		"-Djdk.reflect.useDirectMethodHandle=false", "-Dio.netty.tryReflectionSetAccessible=true",
		"-jar", l.jars.Harness}
	cmd := exec.Command(l.jars.java, append(flags, args...)...)
	cmd.Dir = l.dir("work") // what is written to a relative path, such as a metastore
	cmd.Env = l.environment()
	return cmd
}

// compiler is how far code is compiled: only fast, or, where it runs long, well.
func (l launcher) compiler() string {
	if l.o.Optimize {
		return "-XX:TieredStopAtLevel=4"
	}
	return "-XX:TieredStopAtLevel=1"
}

// archiveFlag names the archive of loaded classes, which halves the time of a start. The virtual machine does without
// one that is missing or does not fit.
func (l launcher) archiveFlag() string {
	if l.newArchive != "" {
		return "-XX:ArchiveClassesAtExit=" + l.newArchive
	}
	return "-XX:SharedArchiveFile=" + l.jars.archive
}

// environment is that of this process without what would configure Spark or Hadoop behind our back.
func (l launcher) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "SPARK_") || strings.HasPrefix(kv, "HADOOP_") || strings.HasPrefix(kv, "CLASSPATH=")
	})
	return append(env,
		"HADOOP_USER_NAME="+l.o.SparkUser,
		"SPARK_LOCAL_IP=127.0.0.1",
		"SPARK_SCALA_VERSION="+l.jars.rel.scala, // with SPARK_HOME what Spark needs to find the class path of executors
		"SPARK_HOME="+l.dir("spark"))
}

// allInOne is the JVM with all servers.
func (l launcher) allInOne() *exec.Cmd {
	var roles, args []string
	if l.o.hdfs() {
		roles = append(roles, "hdfs")
	}
	if l.o.spark() {
		roles = append(roles, spark)
		args = append(args, l.sparkArgs()...)
	}
	namenodes := 1
	if l.o.HA {
		namenodes = 2
	}
	args = append(args, "roles="+strings.Join(roles, ","), "user="+l.o.User, "dir="+l.dir("hdfs"),
		fmt.Sprint("datanodes=", l.o.Datanodes), fmt.Sprint("namenodes=", namenodes))
	return l.java(l.o.Heap, append(args, prefixed("hadoop.", l.o.Hadoop)...))
}

// namenode is a namenode of its own. Port 0 lets the kernel choose.
func (l launcher) namenode(port string) *exec.Cmd {
	cmd := l.java("192m", append(prefixed("hadoop.", l.o.Hadoop), "roles=namenode", "dir="+l.dir("namenode"), "port="+port,
		fmt.Sprint("datanodes=", l.o.Datanodes)))
	cmd.Env = append(cmd.Env, "HADOOP_USER_NAME="+l.o.User)
	return cmd
}

// datanode is the datanode with that number. The client's properties name the namenode.
func (l launcher) datanode(i int, port string, client map[string]string) *exec.Cmd {
	args := append(prefixed("hadoop.", l.o.Hadoop), prefixed("hadoop.", client)...)
	cmd := l.java("128m", append(args, "roles=datanode", fmt.Sprint("dir=", l.dir(datanode), i), "port="+port,
		fmt.Sprint("datanodes=", l.o.Datanodes)))
	cmd.Env = append(cmd.Env, "HADOOP_USER_NAME="+l.o.User)
	return cmd
}

// spark is Spark on its own. The client's properties name the namenode.
func (l launcher) spark(client map[string]string) *exec.Cmd {
	args := append(prefixed("hadoop.", l.o.Hadoop), prefixed("hadoop.", client)...)
	return l.java(l.o.Heap, append(append(args, l.sparkArgs()...), "roles=spark"))
}

// sparkArgs are the properties of Spark: small, quiet, on loopback, and the artifact isolation that its own main
// program of Spark Connect switches on.
func (l launcher) sparkArgs() []string {
	p := map[string]string{
		"app.name":                       "box",
		"master":                         "local[2]",
		"driver.host":                    "127.0.0.1",
		"driver.bindAddress":             "127.0.0.1",
		"driver.maxResultSize":           "0",
		"ui.enabled":                     "false",
		"local.dir":                      l.dir("tmp"),
		"connect.grpc.binding.address":   "127.0.0.1",
		"connect.grpc.binding.port":      "0",
		"sql.shuffle.partitions":         "4",
		"sql.warehouse.dir":              l.dir("warehouse"),
		"sql.session.timeZone":           "UTC",
		"sql.artifact.isolation.enabled": "true",
		"sql.artifact.isolation.alwaysApplyClassloader": "true",
	}
	if l.o.Executors > 0 {
		p["master"] = fmt.Sprintf("local-cluster[%d,1,1024]", l.o.Executors)
		p["executor.memory"] = "1g"
		p["executor.extraJavaOptions"] = `"-Djava.io.tmpdir=` + l.dir("tmp") + `" -Djava.net.preferIPv4Stack=true -XX:-UsePerfData -XX:+UseSerialGC`
	}
	for k, v := range l.o.Spark {
		p[strings.TrimPrefix(k, "spark.")] = v
	}
	return prefixed("spark.", p)
}

// linkJars makes the folder in which Spark looks for the JARs of executors.
func (l launcher) linkJars() error {
	if err := os.MkdirAll(l.dir("spark"), 0o755); err != nil {
		return err
	}
	return os.Symlink(l.jars.Libraries, l.dir("spark", "jars"))
}

func prefixed(prefix string, properties map[string]string) []string {
	var args []string
	for _, k := range slices.Sorted(maps.Keys(properties)) {
		args = append(args, prefix+k+"="+properties[k])
	}
	return args
}
