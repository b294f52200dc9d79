package box

import "strings"

// DefaultSpark is the version of Spark that a box runs when it is not asked for another.
const DefaultSpark = "4.0.1"

// release is a Spark with what goes with it.
type release struct {
	spark  string
	scala  string // that its artifacts are built for
	hadoop string // of the client that it brings; HDFS is of the same version
}

// releaseOf gives the recipe for a version of Spark; empty is DefaultSpark.
func releaseOf(version string) (release, error) {
	if version == "" {
		version = DefaultSpark
	}
	for minor, r := range map[string]release{
		"3.5": {scala: "2.12", hadoop: "3.3.4"},
		"4.0": {scala: "2.13", hadoop: "3.4.1"},
		"4.1": {scala: "2.13", hadoop: "3.4.2"},
		"4.2": {scala: "2.13", hadoop: "3.5.0"},
	} {
		if patch, ok := strings.CutPrefix(version, minor+"."); ok && patch != "" && strings.Trim(patch, "0123456789") == "" {
			r.spark = version
			return r, nil
		}
	}
	return release{}, &Error{Kind: kindUsage, Message: "a box with Spark " + version, Hint: "take a version such as " + DefaultSpark + " of 3.5, 4.0, 4.1 or 4.2"}
}

// usual tells the release that CI runs.
func (r release) usual() bool { return r.spark == DefaultSpark }

// properties are arguments of Maven.
func (r release) properties() []string {
	return []string{"-Dspark.version=" + r.spark, "-Dscala.binary.version=" + r.scala, "-Dhadoop.version=" + r.hadoop}
}

// key stands for the release in names of the cache.
func (r release) key() []byte { return []byte(strings.Join(r.properties(), " ")) }
