"""What can go wrong between a client and its server.

ClientError
├── CredentialsUnusable   none were found, or what was found is not usable
├── ServerUnreachable     nothing answers at that address, or the answer broke off
└── ApiError              the server said no
"""


class ClientError(Exception):
    """The message is for people: what, which, and what to do next."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class CredentialsUnusable(ClientError):
    pass


class ServerUnreachable(ClientError):
    pass


class ApiError(ClientError):
    """The server's own words, and its code for them.

    `status` is that of HTTP; `request_id` finds the request in the server's log.
    """

    def __init__(self, *, status: int, code: str, message: str, request_id: str) -> None:
        super().__init__(message)
        self.status, self.code, self.request_id = status, code, request_id
