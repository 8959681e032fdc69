"""A real SMTP server (aiosmtpd) that keeps each email it takes in a file.

The file's first line is the recipient of the envelope, then comes the email as it
was received. With a certificate it asks for STARTTLS, and with a password for a login.
"""

import argparse
import asyncio
import itertools
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--dir", type=pathlib.Path, required=True)
arguments.add_argument("--defer", type=int, default=0, help="so many emails get 451 first")
arguments.add_argument("--drop", type=int, default=0, help="so many are kept, then the connection is dropped before the answer")
arguments.add_argument("--refuse", default="", help="a recipient that gets 550")
arguments.add_argument("--later", default="", help="a recipient that gets 451, always")
arguments.add_argument("--certificate", help="PEM, with the key in --key")
arguments.add_argument("--key")
arguments.add_argument("--password", default="", help="of the user weir")
given = arguments.parse_args()
kept = itertools.count(1)


class Mailbox:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == given.refuse:
            return "550 5.1.1 no such mailbox"
        if address == given.later:
            return "451 4.7.1 greylisted, please try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if given.defer > 0:
            given.defer -= 1
            return "451 4.3.0 later, please"
        name = given.dir / f"{next(kept):04}.eml"
        draft = name.with_suffix(".draft")
        recipients = ",".join(envelope.rcpt_tos).encode()
        draft.write_bytes(recipients + b"\n" + envelope.original_content)
        draft.rename(name)
        if given.drop > 0:
            given.drop -= 1
            server.transport.abort()
        return "250 2.0.0 kept"


def login(server, session, envelope, mechanism, data):
    right = data.login == b"weir" and data.password == given.password.encode()
    return AuthResult(success=right, handled=False)


async def serve():
    context = None
    if given.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.certificate, given.key)
    secret = {"tls_context": context, "require_starttls": True} if context else {}
    if given.password:
        secret |= {"authenticator": login, "auth_required": True, "auth_require_tls": bool(context)}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Mailbox(), loop=loop, hostname="mail.test", enable_SMTPUTF8=True, **secret),
        "127.0.0.1", given.port,
    )
    print("listening", flush=True)
    await server.serve_forever()


try:
    asyncio.run(serve())
except KeyboardInterrupt:
    sys.exit(0)
