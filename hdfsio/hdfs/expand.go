package hdfs

import (
	"errors"
	"strings"
)

// Limits of variable substitution: the number of replacements is Hadoop's.
const (
	maxExpansions = 20
	maxExpanded   = 64 << 10
)

var (
	errManyExpansions = errors.New("more than 20 variables were replaced; do they name each other?")
	errLongExpansion  = errors.New("the value with its variables replaced is longer than 64 KiB")
)

// expand replaces ${name} by the property of that name, and ${env.X}, ${env.X-default} and ${env.X:-default} by a
// variable of the environment; with :- an empty variable counts as absent. Like in Hadoop, what is replaced may hold
// variables again, and a name that nobody knows stays as it is written.
func (c *Conf) expand(s string) (string, error) {
	from := 0 // before it nothing is left to replace
	for range maxExpansions {
		start, end := innermost(s, from)
		if start < 0 {
			return s, nil
		}
		value, known := c.variable(s[start+2 : end])
		if !known {
			from = end + 1
			continue
		}
		if len(s)+len(value) > maxExpanded {
			return "", errLongExpansion
		}
		s = s[:start] + value + s[end+1:]
		from = 0
	}
	if start, _ := innermost(s, from); start < 0 {
		return s, nil
	}
	return "", errManyExpansions
}

// innermost finds the first ${...} without another inside, that ends at or after from.
func innermost(s string, from int) (start, end int) {
	for from < len(s) {
		i := strings.IndexByte(s[from:], '}')
		if i < 0 {
			return -1, -1
		}
		end = from + i
		if start = strings.LastIndex(s[:end], "${"); start >= 0 && start+2 < end && !strings.Contains(s[start:end], "}") {
			return start, end
		}
		from = end + 1
	}
	return -1, -1
}

// variable looks one variable up.
func (c *Conf) variable(name string) (string, bool) {
	if env, ok := strings.CutPrefix(name, "env."); ok {
		if i := strings.IndexByte(env, '-'); i > 0 {
			emptyToo := env[i-1] == ':'
			key := strings.TrimSuffix(env[:i], ":")
			// The environment is given as a function, which cannot tell an empty variable from an absent one.
			if v := c.getenv(key); v != "" || emptyToo && key == "" {
				return v, true
			}
			return env[i+1:], true
		}
		v := c.getenv(env)
		return v, v != ""
	}
	switch name { // the properties of the Java machine that such files use
	case "user.name":
		if v := c.getenv("USER"); v != "" {
			return v, true
		}
	case "user.home":
		if v := c.getenv("HOME"); v != "" {
			return v, true
		}
	}
	p, ok := c.props[name]
	return p.value, ok
}

func (c *Conf) getenv(name string) string {
	if c.env == nil {
		return ""
	}
	return c.env(name)
}
