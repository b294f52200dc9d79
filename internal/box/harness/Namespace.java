package dkpipe.box;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.hdfs.protocol.HdfsConstants.SafeModeAction;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.protocol.DatanodeInfo;
import org.apache.hadoop.hdfs.protocol.LocatedBlock;

/** The commands that need only a client of the file system, with the rights of its superuser. */
final class Namespace {
  private Namespace() {}

  static boolean command(DistributedFileSystem fs, String[] words, Harness.Reply reply) throws IOException {
    switch (words[0]) {
      case "check":
        check(fs, words);
        return true;
      case "safemode":
        fs.setSafeMode(words[1].equals("enter") ? SafeModeAction.SAFEMODE_ENTER : SafeModeAction.SAFEMODE_LEAVE);
        return true;
      case "blocks":
        blocks(fs, words[1], reply);
        return true;
      default:
        return false;
    }
  }

  /** Makes /tmp and the home folders of the users named, then writes, reads and removes a file. */
  private static void check(DistributedFileSystem fs, String[] words) throws IOException {
    Path tmp = new Path("/tmp");
    fs.mkdirs(tmp);
    fs.setPermission(tmp, new FsPermission((short) 01777));
    for (String user : Arrays.copyOfRange(words, 1, words.length)) {
      Path home = new Path("/user/" + user);
      fs.mkdirs(home);
      fs.setPermission(home, new FsPermission((short) 0755));
      fs.setOwner(home, user, null);
    }
    for (Path p : new Path[] {new Path("/"), new Path("/user")}) {
      fs.setPermission(p, new FsPermission((short) 0755));
    }
    Path file = new Path("/tmp/.box-check");
    byte[] want = "checked".getBytes(StandardCharsets.UTF_8);
    try (OutputStream w = fs.create(file)) {
      w.write(want);
    }
    try (InputStream r = fs.open(file)) {
      if (!Arrays.equals(want, r.readAllBytes())) {
        throw new IOException("the bytes read from " + file + " are not those written");
      }
    }
    fs.delete(file, false);
  }

  /** One line a block: name, offset, length, then the addresses of its replicas. */
  private static void blocks(DistributedFileSystem fs, String path, Harness.Reply reply) throws IOException {
    for (LocatedBlock b : fs.getClient().getLocatedBlocks(path, 0, Long.MAX_VALUE).getLocatedBlocks()) {
      StringBuilder line = new StringBuilder();
      line.append(b.getBlock().getBlockName()).append(' ').append(b.getStartOffset()).append(' ').append(b.getBlockSize());
      for (DatanodeInfo d : b.getLocations()) {
        line.append(' ').append(d.getXferAddr());
      }
      reply.line(line.toString());
    }
  }
}
