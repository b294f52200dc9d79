package dkpipe.box;

import java.io.File;
import java.io.IOException;
import java.security.PrivilegedExceptionAction;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.MiniDFSCluster;
import org.apache.hadoop.hdfs.MiniDFSNNTopology;
import org.apache.hadoop.hdfs.server.datanode.DataNode;
import org.apache.hadoop.hdfs.server.datanode.DataNodeFaultInjector;
import org.apache.hadoop.security.UserGroupInformation;

/**
 * HDFS within this JVM: one namenode, or two that stand in for each other, and any number of datanodes.
 *
 * <p>Everything here runs as the user "user", who thereby is the superuser of the file system. The JVM itself, and so
 * Spark, may run as another one.
 */
final class MiniHdfs implements Harness.Role {
  private static final String NAMESERVICE = "box";

  private final Settings settings;
  private final UserGroupInformation superuser;
  private final HdfsDefaults.AckDelay acks = new HdfsDefaults.AckDelay();
  private MiniDFSCluster cluster;
  private int[] ports; // of the datanodes, in the order of the start: the cluster renumbers, callers do not
  private MiniDFSCluster.DataNodeProperties[] stopped;

  MiniHdfs(Settings settings) {
    this.settings = settings;
    // Whoever asks for a user first decides for this JVM where the groups of users come from (hadoop.security.group.mapping
    // and hadoop.user.group.static.mapping.overrides): the settings of HDFS have to be known by then.
    UserGroupInformation.setConfiguration(HdfsDefaults.configuration(settings, settings.number("datanodes")));
    this.superuser = UserGroupInformation.createRemoteUser(settings.get("user"));
  }

  @Override
  public void start(Harness.Reply reply) throws Exception {
    as(() -> startCluster(reply));
  }

  private void startCluster(Harness.Reply reply) throws Exception {
    int datanodes = settings.number("datanodes");
    int namenodes = settings.number("namenodes");
    Configuration conf = HdfsDefaults.configuration(settings, datanodes);
    MiniDFSCluster.Builder builder = new MiniDFSCluster.Builder(conf, new File(settings.get("dir")))
        .numDataNodes(datanodes).storagesPerDatanode(1).checkExitOnShutdown(false);
    if (namenodes > 1) {
      MiniDFSNNTopology.NSConf ns = new MiniDFSNNTopology.NSConf(NAMESERVICE);
      HdfsDefaults.range(namenodes).forEach(id -> ns.addNN(new MiniDFSNNTopology.NNConf(id)));
      builder.nnTopology(new MiniDFSNNTopology().addNameservice(ns));
    }
    cluster = builder.build();
    if (namenodes > 1) {
      cluster.transitionToActive(0);
    }
    cluster.waitActive();
    DataNodeFaultInjector.set(acks);
    ports = new int[datanodes];
    stopped = new MiniDFSCluster.DataNodeProperties[datanodes];
    report(reply, namenodes);
  }

  private void report(Harness.Reply reply, int namenodes) {
    for (int i = 0; i < namenodes; i++) {
      reply.line("namenode 127.0.0.1:" + cluster.getNameNodePort(i)
          + " 127.0.0.1:" + cluster.getNameNode(i).getHttpAddress().getPort());
    }
    for (int i = 0; i < ports.length; i++) {
      ports[i] = cluster.getDataNodes().get(i).getXferPort();
      reply.line("datanode 127.0.0.1:" + ports[i] + " " + cluster.getInstanceStorageDir(i, 0));
    }
    Map<String, String> client = client(namenodes);
    HdfsDefaults.reportClient(client, reply);
    client.forEach((k, v) -> settings.put("hadoop." + k, v)); // for Spark in the same JVM
  }

  private Map<String, String> client(int namenodes) {
    Map<String, String> c = new TreeMap<>();
    if (namenodes == 1) {
      c.put("fs.defaultFS", "hdfs://127.0.0.1:" + cluster.getNameNodePort());
      return c;
    }
    List<String> ids = HdfsDefaults.range(namenodes);
    c.put("fs.defaultFS", "hdfs://" + NAMESERVICE);
    c.put("dfs.nameservices", NAMESERVICE);
    c.put("dfs.ha.namenodes." + NAMESERVICE, String.join(",", ids));
    for (int i = 0; i < namenodes; i++) {
      c.put("dfs.namenode.rpc-address." + NAMESERVICE + "." + ids.get(i), "127.0.0.1:" + cluster.getNameNodePort(i));
    }
    c.put("dfs.client.failover.proxy.provider." + NAMESERVICE,
        "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider");
    return c;
  }

  @Override
  public boolean command(String[] words, Harness.Reply reply) throws Exception {
    boolean[] known = {true};
    as(() -> known[0] = dispatch(words, reply));
    return known[0];
  }

  private boolean dispatch(String[] words, Harness.Reply reply) throws Exception {
    switch (words[0]) {
      case "stopdn":
        stopDataNode(index(words, ports.length));
        return true;
      case "startdn":
        startDataNode(index(words, ports.length));
        return true;
      case "killnn":
        cluster.shutdownNameNode(index(words, cluster.getNumNameNodes()));
        return true;
      case "startnn":
        cluster.restartNameNode(index(words, cluster.getNumNameNodes()), false);
        return true;
      case "active":
        cluster.transitionToActive(index(words, cluster.getNumNameNodes()));
        return true;
      case "standby":
        cluster.transitionToStandby(index(words, cluster.getNumNameNodes()));
        return true;
      case "ackdelay":
        acks.set(Long.parseLong(words[1]));
        return true;
      default:
        return Namespace.command(active(), words, reply);
    }
  }

  private static int index(String[] words, int n) {
    int i = words.length > 1 ? Integer.parseInt(words[1]) : 0;
    if (i < 0 || i >= n) {
      throw new IllegalArgumentException(words[0] + " " + i + ": they are numbered from 0 to " + (n - 1));
    }
    return i;
  }

  private void stopDataNode(int i) {
    if (stopped[i] != null) {
      return;
    }
    List<DataNode> running = cluster.getDataNodes();
    for (int at = 0; at < running.size(); at++) {
      if (running.get(at).getXferPort() == ports[i]) {
        stopped[i] = cluster.stopDataNode(at);
        return;
      }
    }
  }

  private void startDataNode(int i) throws IOException {
    if (stopped[i] == null) {
      return;
    }
    cluster.restartDataNode(stopped[i], true);
    stopped[i] = null;
    cluster.waitActive();
  }

  private DistributedFileSystem active() throws IOException {
    for (int i = 0; i < cluster.getNumNameNodes(); i++) {
      if (cluster.getNameNode(i) != null && cluster.getNameNode(i).isActiveState()) {
        return cluster.getFileSystem(i);
      }
    }
    throw new IOException("no namenode is active");
  }

  private interface Action {
    void run() throws Exception;
  }

  private void as(Action action) throws Exception {
    superuser.doAs((PrivilegedExceptionAction<Void>) () -> {
      action.run();
      return null;
    });
  }
}
