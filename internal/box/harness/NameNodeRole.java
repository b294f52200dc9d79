package dkpipe.box;

import java.io.File;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.server.namenode.NameNode;
import org.apache.hadoop.metrics2.lib.DefaultMetricsSystem;

/** A namenode as a process of its own. */
final class NameNodeRole implements Harness.Role {
  private final Settings settings;
  private NameNode namenode;
  private DistributedFileSystem fs;

  NameNodeRole(Settings settings) {
    this.settings = settings;
  }

  @Override
  public void start(Harness.Reply reply) throws Exception {
    File dir = new File(settings.get("dir"));
    Configuration conf = HdfsDefaults.configuration(settings, settings.number("datanodes"));
    conf.set("fs.defaultFS", "hdfs://127.0.0.1:" + settings.get("port"));
    conf.set("dfs.namenode.name.dir", dir.toURI().toString());
    conf.set("dfs.namenode.http-address", "127.0.0.1:0");
    DefaultMetricsSystem.setMiniClusterMode(true); // formatting registers what the namenode then registers again
    if (!new File(dir, "current/VERSION").exists()) {
      NameNode.format(conf);
    }
    namenode = NameNode.createNameNode(new String[0], conf);
    String address = "127.0.0.1:" + namenode.getNameNodeAddress().getPort();
    Map<String, String> client = Map.of("fs.defaultFS", "hdfs://" + address);
    reply.line("namenode " + address + " 127.0.0.1:" + namenode.getHttpAddress().getPort());
    HdfsDefaults.reportClient(client, reply);
    Configuration own = new Configuration(conf);
    client.forEach(own::set);
    fs = (DistributedFileSystem) DistributedFileSystem.get(own);
  }

  @Override
  public boolean command(String[] words, Harness.Reply reply) throws Exception {
    if (words[0].equals("live")) { // waits until so many datanodes have said that they are alive
      while (namenode.getNamesystem().getNumLiveDataNodes() < Integer.parseInt(words[1])
          || namenode.getNamesystem().isInSafeMode()) {
        Thread.sleep(20);
      }
      return true;
    }
    return Namespace.command(fs, words, reply);
  }
}
