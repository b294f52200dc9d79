package dkpipe.box;

import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.connect.service.SparkConnectService$;

/** A Spark Connect server. The properties that came as spark.KEY=VALUE are Spark's, hadoop.KEY=VALUE its client's. */
final class SparkRole implements Harness.Role {
  private final Settings settings;
  private SparkSession session;

  SparkRole(Settings settings) {
    this.settings = settings;
  }

  @Override
  public void start(Harness.Reply reply) throws Exception {
    settings.below("hadoop.").forEach((k, v) -> System.setProperty("spark.hadoop." + k, v));
    settings.below("spark.").forEach((k, v) -> System.setProperty("spark." + k, v));
    session = SparkSession.builder().getOrCreate();
    SparkConnectService$.MODULE$.start(session.sparkContext());
    reply.line("spark 127.0.0.1:" + SparkConnectService$.MODULE$.localPort());
  }

  @Override
  public boolean command(String[] words, Harness.Reply reply) {
    return false;
  }
}
