"""Sends events as other systems do, by the SDKs of CloudEvents and OpenTelemetry.

    send.py cloudevents URL NAME SECRET
    send.py otlp-http URL NAME SECRET
    send.py otlp-grpc HOST:PORT NAME SECRET

Prints a line for each answer, or what the exporter made of it.
"""

import base64
import logging
import sys
from datetime import datetime, timezone

how, where, name, secret = sys.argv[1:]
login = "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def cloudevents():
    import requests
    from cloudevents.core.bindings.http import to_binary_event, to_structured_event
    from cloudevents.core.v1.event import CloudEvent

    def event(number, **more):
        attributes = {
            "id": f"sdk-{number}",
            "source": "/erp/orders",
            "type": "order.placed",
            "time": datetime(2026, 1, 31, 23, 59, 59, tzinfo=timezone.utc),
            **more,
        }
        return CloudEvent(attributes=attributes, data={"pieces": number, "note": "größer"})

    structured = to_structured_event(event(1, subject="order 1"))
    binary = to_binary_event(event(2, subject="größer", datacontenttype="application/json"))
    for message in [structured, binary]:
        answer = requests.post(
            where,
            data=message.body,
            headers={**message.headers, "authorization": login},
            timeout=30,
        )
        print(answer.status_code, answer.text)


def otlp(exporter):
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    failed = []

    class Told(logging.Handler):
        def emit(self, record):
            failed.append(record.getMessage())

    logging.getLogger("opentelemetry").addHandler(Told())
    provider = LoggerProvider(
        resource=Resource.create({"service.name": "billing", "service.version": "1.4"})
    )
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = logging.getLogger("billing")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(LoggingHandler(logger_provider=provider))
    logger.info("started by %s", how)
    logger.error("invoice refused", extra={"invoice": 77, "why": ["total", "date"]})
    provider.shutdown()
    print("failed" if failed else "sent", *failed)


if how == "cloudevents":
    cloudevents()
elif how == "otlp-http":
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    headers = {"authorization": login}
    otlp(OTLPLogExporter(endpoint=where, headers=headers, compression=Compression.Gzip, timeout=10))
else:
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    headers = (("authorization", login),)
    otlp(OTLPLogExporter(endpoint=where, headers=headers, insecure=True, timeout=10))
