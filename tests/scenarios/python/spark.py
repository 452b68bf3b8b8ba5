"""Structured streaming from one topic into another: `spark.py JARS BOOTSTRAP CHECKPOINT`, where JARS are divided by commas.

Each round takes what is there since the round before, by the checkpoint, and prints `ROUND` when it is through; a line of input
asks for the next one, and the end of input for what a batch query sees in the second topic, a line `batch VALUE` each.
"""

import sys

from pyspark.sql import SparkSession

jars, bootstrap, checkpoint = sys.argv[1:]
settings = {
    "spark.jars": jars,
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "640m",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.warehouse.dir": f"{checkpoint}-warehouse",
}
builder = SparkSession.builder.master("local[2]").appName("scenario")
for name, value in settings.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("WARN")
kafka = {"kafka.bootstrap.servers": bootstrap, "startingOffsets": "earliest"}

while True:
    stream = spark.readStream.format("kafka").options(**kafka, subscribe="spark-in", maxOffsetsPerTrigger=300).load()
    query = (
        stream.selectExpr("key", "concat('seen ', CAST(value AS STRING)) AS value")
        .writeStream.format("kafka")
        .options(**{"kafka.bootstrap.servers": bootstrap, "topic": "spark-out", "checkpointLocation": checkpoint})
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    print("ROUND", flush=True)
    if not sys.stdin.readline():
        break

batch = spark.read.format("kafka").options(**kafka, subscribe="spark-out").load()
for row in batch.selectExpr("CAST(value AS STRING) AS value").collect():
    print("batch", row.value, flush=True)
spark.stop()
