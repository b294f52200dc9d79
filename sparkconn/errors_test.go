package sparkconn

import (
	"strings"
	"testing"

	"dkpipe/pipeline"
)

// TestErrorsAreShownWhereTheyStandInTheSource: Spark counts in the statement that was made of the source's text; people
// need the place in what they have written, and nothing of what was put round it.
func TestErrorsAreShownWhereTheyStandInTheSource(t *testing.T) {
	s := dialReal(t)
	if major(t, s) < 4 {
		t.Skip("Spark 3.5 tells less, in other words")
	}
	for _, c := range []struct{ sql, want string }{
		{"SELECT id\nFROM nosuch.events", "source: [TABLE_OR_VIEW_NOT_FOUND] The table or view `nosuch`.`events` cannot be found. " +
			"Verify the spelling and correctness of the schema and catalog. SQLSTATE: 42P01 (source.sql, line 2, column 6: nosuch.events)"},
		{"SELECT id,\n  'ü' AS u, idd FROM range(3)", "source: [UNRESOLVED_COLUMN.WITH_SUGGESTION] A column, variable, or function parameter with name `idd` " +
			"cannot be resolved. Did you mean one of the following? [`id`]. SQLSTATE: 42703 (source.sql, line 2, column 13: idd)"},
		{"SELECT id\nFORM range(3) WHERE id", "source: [PARSE_SYNTAX_ERROR] Syntax error at or near 'range'. SQLSTATE: 42601 (source.sql, line 2, column 6)"},
		{"SELECT id FROM range(3); DROP TABLE t", "source: [PARSE_SYNTAX_ERROR] Syntax error at or near 'DROP': extra input 'DROP'. SQLSTATE: 42601 (source.sql, line 1, column 26)"},
	} {
		_, err := s.openSource(t.Context(), "", pipeline.Source{Format: pipeline.SQL, Text: c.sql})
		if err == nil || err.Error() != c.want {
			t.Errorf("%q\ngot  %v\nwant %s", c.sql, err, c.want)
		}
	}
	_, err := s.openSource(t.Context(), "", pipeline.Source{Format: pipeline.Table, Text: "nosuch"})
	if want := "(source.table, line 1, column 1: nosuch)"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want … %s", err, want)
	}
}

// TestTextThatIsNoQueryIsNotCarriedOut: what stands in source.sql is looked at as a query and never as a command.
func TestTextThatIsNoQueryIsNotCarriedOut(t *testing.T) {
	s := dialReal(t)
	for _, sql := range []string{"CREATE TEMPORARY VIEW made AS SELECT 1", "SELECT 1; CREATE TEMPORARY VIEW made AS SELECT 1", "CACHE TABLE made AS SELECT 1"} {
		_, err := s.openSource(t.Context(), "", pipeline.Source{Format: pipeline.SQL, Text: sql})
		wantError(t, err, pipeline.BadSpec, "PARSE_SYNTAX_ERROR")
		_, err = s.table(t.Context(), "look", "", "SELECT * FROM made")
		wantError(t, err, pipeline.BadSpec, "TABLE_OR_VIEW_NOT_FOUND")
	}
}

func TestASourceOfVectorsWithoutRowsIsEmpty(t *testing.T) {
	s := dialReal(t)
	_, err := s.openSource(t.Context(), "", pipeline.Source{Format: pipeline.SQL, Text: "SELECT array(id) AS v FROM range(0)"})
	wantError(t, err, pipeline.Data, "empty source")
}

func TestPlacesAreFound(t *testing.T) {
	const text = "SELECT a / b,\n  c / d FROM t"
	for name, c := range map[string]struct {
		e    ServerError
		want string
	}{
		"by the statement":                  {ServerError{statement: "SELECT 'é', a / b FROM (\n" + text + "\n)", Fragment: "a / b", Start: 33}, "f, line 1, column 8"},
		"in what was put round it":          {ServerError{statement: "SELECT a / z FROM (\n" + text + "\n)", Fragment: "a / z", Start: 7}, ""},
		"by line and position":              {ServerError{statement: "SELECT 1 FROM (\n" + text + "\n)", line: 3, pos: 2}, "f, line 2, column 3"},
		"a line that is not there":          {ServerError{statement: text, line: 9, pos: 2}, ""},
		"by the fragment":                   {ServerError{Fragment: "c / d"}, "f, line 2, column 3"},
		"by a fragment that is there twice": {ServerError{Fragment: " / "}, ""},
		"nowhere":                           {ServerError{}, ""},
	} {
		err := &pipeline.Error{Err: &c.e}
		if locate(err, "f", text); c.e.place != c.want {
			t.Errorf("%s: %q, want %q", name, c.e.place, c.want)
		}
	}
}
