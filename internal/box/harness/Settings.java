package dkpipe.box;

import java.util.Map;
import java.util.TreeMap;
import org.apache.hadoop.conf.Configuration;

/** The command line of a process: key=value words. */
final class Settings {
  private final Map<String, String> values = new TreeMap<>();

  Settings(String[] args) {
    for (String arg : args) {
      int eq = arg.indexOf('=');
      if (eq < 0) {
        throw new IllegalArgumentException("not of the form key=value: " + arg);
      }
      values.put(arg.substring(0, eq), arg.substring(eq + 1));
    }
  }

  String get(String key) {
    String v = values.get(key);
    if (v == null) {
      throw new IllegalArgumentException("missing: " + key);
    }
    return v;
  }

  int number(String key) {
    return Integer.parseInt(get(key));
  }

  void put(String key, String value) {
    values.put(key, value);
  }

  /** All values below a prefix, keyed without it. */
  Map<String, String> below(String prefix) {
    Map<String, String> found = new TreeMap<>();
    values.forEach((k, v) -> {
      if (k.startsWith(prefix)) {
        found.put(k.substring(prefix.length()), v);
      }
    });
    return found;
  }

  /** Sets the properties that came as hadoop.KEY=VALUE. */
  void apply(Configuration conf) {
    below("hadoop.").forEach(conf::set);
  }
}
