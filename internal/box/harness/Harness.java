package dkpipe.box;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * Runs servers in this JVM for as long as the standard input is open.
 *
 * <p>The standard input carries one command a line. Every command is answered on the standard output by any number
 * of lines "- text" and then one line "ok" or "err message". The start of the servers is answered in the same way,
 * once, before any command is read.
 *
 * <p>The end of the standard input means that the supervisor is gone, however it went: the JVM then kills its
 * children (Spark's executors and the programs that they run) and halts at once.
 */
public final class Harness {
  /** One kind of server. Methods are called from one thread. */
  interface Role {
    void start(Reply reply) throws Exception;

    /** Carries out the command, or returns false when it is not one of this role's. */
    boolean command(String[] words, Reply reply) throws Exception;
  }

  /** What is said in answer to one command. */
  static final class Reply {
    private final List<String> lines = new ArrayList<>();

    void line(String text) {
      lines.add("- " + oneLine(text));
    }
  }

  private final PrintStream out;
  private final List<Role> roles = new ArrayList<>();
  private final BlockingQueue<String> commands = new LinkedBlockingQueue<>();

  private Harness(PrintStream out) {
    this.out = out;
  }

  public static void main(String[] args) {
    PrintStream out = System.out;
    System.setOut(System.err); // nothing that a library prints may look like a reply
    Harness h = new Harness(out);
    h.readCommands();
    try {
      h.run(new Settings(args));
    } catch (Throwable t) {
      t.printStackTrace();
    }
    halt(1); // threads of the servers must not keep the process
  }

  /** Returns when the servers do not start. */
  private void run(Settings settings) throws Exception {
    if (!answer(reply -> {
      for (String name : settings.get("roles").split(",")) {
        Role role = role(name, settings);
        roles.add(role);
        role.start(reply);
      }
    })) {
      return;
    }
    while (true) {
      String[] words = commands.take().trim().split("\\s+");
      answer(reply -> dispatch(words, reply));
    }
  }

  /** Ends this process and its children. Nothing needs an orderly end: the next box starts with empty folders. */
  private static void halt(int code) {
    ProcessHandle.current().descendants().forEach(ProcessHandle::destroyForcibly);
    System.err.flush();
    Runtime.getRuntime().halt(code);
  }

  private static Role role(String name, Settings settings) {
    switch (name) {
      case "hdfs":
        return new MiniHdfs(settings);
      case "namenode":
        return new NameNodeRole(settings);
      case "datanode":
        return new DataNodeRole(settings);
      case "spark":
        return new SparkRole(settings);
      default:
        throw new IllegalArgumentException("there is no role " + name);
    }
  }

  private void dispatch(String[] words, Reply reply) throws Exception {
    for (Role role : roles) {
      if (role.command(words, reply)) {
        return;
      }
    }
    throw new IllegalArgumentException("there is no command " + words[0] + " in this process");
  }

  private interface Work {
    void run(Reply reply) throws Exception;
  }

  /** Does the work and prints its reply in one piece. */
  private boolean answer(Work work) {
    Reply reply = new Reply();
    String last = "ok";
    try {
      work.run(reply);
    } catch (Throwable t) {
      t.printStackTrace();
      Throwable cause = t;
      while (cause.getCause() != null && cause.getCause() != cause) {
        cause = cause.getCause();
      }
      last = "err " + cause.toString().lines().findFirst().orElse(""); // a remote cause brings its stack along
    }
    StringBuilder all = new StringBuilder();
    for (String line : reply.lines) {
      all.append(line).append('\n');
    }
    byte[] bytes = all.append(last).append('\n').toString().getBytes(StandardCharsets.UTF_8);
    out.write(bytes, 0, bytes.length);
    out.flush();
    return last.equals("ok");
  }

  /** Starts the thread that reads the standard input. It starts before any server does, so a supervisor that dies
   * during the start is noticed as well. */
  private void readCommands() {
    Thread reader = new Thread(() -> {
      try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
        for (String line; (line = in.readLine()) != null; ) {
          commands.add(line);
        }
      } catch (IOException e) {
        e.printStackTrace();
      }
      halt(0);
    }, "box-commands");
    reader.setDaemon(true);
    reader.start();
  }

  private static String oneLine(String text) {
    return text.replace('\n', ' ').replace('\r', ' ');
  }
}
