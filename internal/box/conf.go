package box

import (
	"encoding/xml"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// property is one entry of a Hadoop configuration file.
type property struct {
	Name  string `xml:"name"`
	Value string `xml:"value"`
}

// writeConf writes what clients need: fs.* and hadoop.* into core-site.xml, the rest into hdfs-site.xml.
func writeConf(dir string, properties map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &Error{Kind: kindInternal, Message: "configuration for clients", Err: err}
	}
	var core, hdfs []property
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		p := property{Name: name, Value: properties[name]}
		if strings.HasPrefix(name, "dfs.") {
			hdfs = append(hdfs, p)
		} else {
			core = append(core, p)
		}
	}
	for file, list := range map[string][]property{"core-site.xml": core, "hdfs-site.xml": hdfs} {
		text, err := xml.MarshalIndent(struct {
			XMLName    xml.Name   `xml:"configuration"`
			Properties []property `xml:"property"`
		}{Properties: list}, "", "  ")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), append([]byte(xml.Header), append(text, '\n')...), 0o644)
		}
		if err != nil {
			return &Error{Kind: kindInternal, Message: "configuration for clients, " + file, Err: err}
		}
	}
	return nil
}
