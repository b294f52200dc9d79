package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestSlotsInSQLAndPaths runs a job for one day of a table: the day is in the SQL, as text and as a date, and in a path.
func TestSlotsInSQLAndPaths(t *testing.T) {
	t.Parallel()
	c := onSmallCluster(t)
	c.sql(t, "INSERT OVERWRITE DIRECTORY '"+c.root+"/days/ds=2026-11-21' USING parquet "+smallRows+" WHERE id < 200")
	c.sql(t, "INSERT OVERWRITE DIRECTORY '"+c.root+"/days/ds=2026-11-22' USING parquet "+smallRows+" WHERE id >= 200")
	days := "SELECT * FROM parquet.`" + c.root + "/days` WHERE ds = "
	for name, source := range map[string]string{
		"text": `{sql: "` + days + `'{{slot_date}}'"}`,
		"date": `{sql: "` + days + `{{slot_date}}"}`,
		"part": `{sql: "` + days + `'{{slot_date}}' AND '{{slot}}' LIKE '%T03'"}`,
		"path": `{parquet: "` + c.root + `/days/ds={{slot_date}}"}`,
	} {
		text := strings.ReplaceAll(strings.ReplaceAll(smallJob, "ROOT/raw", "RAW"), "keep_versions: 1", "keep_versions: 5")
		text = strings.ReplaceAll(strings.Replace(text, `{parquet: "RAW"}`, source, 1), "ROOT", c.root+"/"+name)
		write(name+".yaml", text)(t, c.dir)
		for slot, want := range map[string]int64{"2026-11-21T03": 200, "2026-11-22T03": 400} {
			if want == 200 && name != "path" {
				continue // one day will do
			}
			r := c.run(t, 0, "preprocess", "-f", name+".yaml", "--slot", slot)
			if n := r.Rows["train"] + r.Rows["test"]; n != want || r.Skipped {
				t.Errorf("%s, slot %s: %d rows, want %d; skipped %t", name, slot, n, want, r.Skipped)
			}
		}
		if r := c.run(t, 0, "preprocess", "-f", name+".yaml", "--slot", "2026-11-22T03"); !r.Skipped {
			t.Errorf("%s: a slot was done twice", name)
		}
	}
	r := c.run(t, 3, "preprocess", "-f", "path.yaml", "--slot", "2026-11-23")
	if want := "source: [PATH_NOT_FOUND] Path does not exist: "; !strings.HasPrefix(r.Error.Message, want) || !strings.Contains(r.Error.Message, "/days/ds=2026-11-23") {
		t.Errorf("got  %s\nwant %s…", r.Error.Message, want)
	}
}

// TestParametersCannotChangeTheSQL gives parameters that would end the text they stand in. Every one is the value it is:
// it equals what the table has, and nothing else.
func TestParametersCannotChangeTheSQL(t *testing.T) {
	t.Parallel()
	values := []string{`plain`, `O'Brien`, `x' OR '1'='1`, `x\' OR 1=1 --`, `\`, `"; DROP TABLE t; --`, `'); SELECT 1; --`, "a`b", "two\nlines", "${spark.app.name}"}
	nobody := []string{`y' OR '1'='1`, `y\' OR 1=1 --`, `y\\' OR 1=1 --`, `') OR (true`, `y')) OR ((id = 1`, `${env:HOME}`, `x' OR '1'='1 `, ``, `'`, `*`}
	c := onSmallCluster(t)
	quoted := make([]string, len(values)) // by another way than the one to be tested
	for i, v := range values {
		quoted[i] = fmt.Sprintf("decode(X'%X', 'UTF-8')", v)
	}
	c.sql(t, "INSERT OVERWRITE DIRECTORY '"+c.root+"/names' USING parquet SELECT *, element_at(array("+strings.Join(quoted, ", ")+"), CAST(id % 10 AS INT) + 1) AS name FROM ("+smallRows+")")
	for form, variable := range map[string]string{"bare": "{{v%d}}", "quotes": "'{{v%d}}'", "longer": "substr('>{{v%d}}', 2)"} {
		params, list := "{limit: 0", ""
		for i := range values {
			params += fmt.Sprintf(", v%d: nobody", i)
			list += ", " + fmt.Sprintf(variable, i)
		}
		source := "params: " + params + "}\nsource:\n  sql: |\n    SELECT * FROM parquet.`ROOT/names`\n" +
			"    WHERE id >= {{limit}} AND name = element_at(array(" + list[2:] + "), CAST(id % 10 AS INT) + 1)"
		text := strings.Replace(smallJob, `source: {parquet: "ROOT/raw"}`, source, 1)
		write(form+".yaml", strings.ReplaceAll(text, "ROOT", c.root))(t, c.dir)
		args := func(values []string) []string {
			args := []string{"preprocess", "-f", form + ".yaml"}
			for i, v := range values {
				args = append(args, "--param", fmt.Sprintf("v%d=%s", i, v))
			}
			return args
		}
		if r := c.run(t, 0, args(values)...); r.Rows["train"]+r.Rows["test"] != 600 {
			t.Errorf("%s: %v rows have the names that the table has, want 600", form, r.Rows)
		}
		if r := c.run(t, 3, args(nobody)...); !strings.HasPrefix(r.Error.Message, "empty source") {
			t.Errorf("%s: names that nobody has: %s", form, r.Error.Message)
		}
		r := c.run(t, 2, "preprocess", "-f", form+".yaml", "--param", "limit=0 OR true")
		if want := "want a whole number, because the default is 0"; !strings.Contains(r.Error.Message, want) {
			t.Errorf("got  %s\nwant …%s…", r.Error.Message, want)
		}
	}
}
