package dkpipe.box;

import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.server.datanode.DataNode;
import org.apache.hadoop.hdfs.server.datanode.DataNodeFaultInjector;

/** A datanode as a process of its own. */
final class DataNodeRole implements Harness.Role {
  private final Settings settings;
  private final HdfsDefaults.AckDelay acks = new HdfsDefaults.AckDelay();
  private DataNode datanode;

  DataNodeRole(Settings settings) {
    this.settings = settings;
  }

  @Override
  public void start(Harness.Reply reply) throws Exception {
    String dir = settings.get("dir");
    Configuration conf = HdfsDefaults.configuration(settings, settings.number("datanodes"));
    conf.set("dfs.datanode.data.dir", dir);
    conf.set("dfs.datanode.address", "127.0.0.1:" + settings.get("port"));
    conf.set("dfs.datanode.ipc.address", "127.0.0.1:0");
    conf.set("dfs.datanode.http.address", "127.0.0.1:0");
    DataNodeFaultInjector.set(acks);
    datanode = DataNode.createDataNode(new String[0], conf);
    reply.line("datanode 127.0.0.1:" + datanode.getXferPort() + " " + dir);
  }

  @Override
  public boolean command(String[] words, Harness.Reply reply) {
    if (words[0].equals("ackdelay")) {
      acks.set(Long.parseLong(words[1]));
      return true;
    }
    return false;
  }
}
