package dkpipe.box;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.server.datanode.DataNodeFaultInjector;

/** What all HDFS processes of a box have in common. */
final class HdfsDefaults {
  private HdfsDefaults() {}

  /** Settings that keep the processes small and let them notice faults in seconds, then the caller's own. */
  static Configuration configuration(Settings settings, int datanodes) {
    Configuration conf = new HdfsConfiguration();
    conf.setInt("dfs.replication", Math.min(3, datanodes));
    conf.setBoolean("dfs.permissions.enabled", true);
    conf.setInt("dfs.namenode.fs-limits.min-block-size", 512);
    conf.setInt("dfs.namenode.handler.count", 4);
    conf.setInt("dfs.namenode.service.handler.count", 3);
    conf.setInt("dfs.datanode.handler.count", 3);
    conf.setInt("dfs.datanode.max.transfer.threads", 256);
    conf.setInt("dfs.heartbeat.interval", 1);
    conf.setInt("dfs.namenode.heartbeat.recheck-interval", 1000);
    conf.setInt("dfs.namenode.redundancy.interval.seconds", 1);
    conf.setInt("dfs.namenode.safemode.extension", 0);
    conf.setBoolean("dfs.namenode.datanode.registration.ip-hostname-check", false);
    conf.set("dfs.datanode.hostname", "127.0.0.1");
    conf.set("hadoop.security.authentication", "simple");
    settings.apply(conf);
    return conf;
  }

  /** Reports what a client needs in its configuration. */
  static void reportClient(Map<String, String> client, Harness.Reply reply) {
    client.forEach((k, v) -> reply.line("client " + k + " " + v));
  }

  /** Delays the acknowledgements that datanodes of this JVM send. */
  static final class AckDelay extends DataNodeFaultInjector {
    private volatile long millis;

    void set(long millis) {
      this.millis = millis;
    }

    @Override
    public void delaySendingAckToUpstream(String upstreamAddr) throws IOException {
      if (millis <= 0) {
        return;
      }
      try {
        Thread.sleep(millis);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }
  }

  static List<String> range(int n) {
    List<String> names = new ArrayList<>();
    for (int i = 1; i <= n; i++) {
      names.add("nn" + i);
    }
    return names;
  }
}
