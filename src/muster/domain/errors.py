"""The one tree of errors.

    MusterError
    ├── InvalidRequest          the caller asked for something that makes no sense; nothing changed
    │   ├── MalformedJson  BodyTooLarge  ConflictingValues  QueryInvalid
    │   ├── NameTaken  QuotaExceeded  WorkspaceUnknown
    │   ├── NoSuchWorkspace  WorkspaceFixed  WorkspaceInUse  TooManyWorkspaces
    │   ├── GrantTaken  GrantUnknown
    │   ├── FlavorUnknown  EngineUnknown  AlgorithmUnknown  DatasetUnknown  TooManyWorkers  TooLarge
    │   ├── AlgorithmNameTaken  AlgorithmMismatch  ChannelInvalid  NotModifiable
    │   ├── HyperparameterInvalid  HyperparameterTaken  TrainingQueryInvalid
    │   ├── CodeFolderInvalid  BootFileInvalid  StoragePathInvalid  CodeTooManyFiles  CodeTooLarge
    │   ├── PoolNotForTraining  PoolNotRunning  FlavorInvalid
    │   ├── TrainingJobUnknown  TrainingNameTaken  TrainingQuotaExceeded  ParameterInvalid
    │   ├── Unsupported  CommandInvalid  ActionUnknown
    │   ├── SearchKeyUnknown  SearchOperatorUnknown  SearchValueInvalid  SortUnknown
    │   └── LogUnknown  LogNotReady
    ├── Unauthenticated         who is calling is not known
    │   ├── TokenExpired  TokenInvalid  TokenWithoutProject
    │   └── SignatureMalformed  SignatureStale
    ├── Forbidden               known, and may not
    │   └── SignatureWrong  ProjectMismatch
    ├── NotFound
    │   ├── JobUnknown  TrainingPoolUnknown  ObjectUnknown  PathUnknown
    │   └── PoolUnknown         NodeUnknown  NodePoolUnknown
    ├── MethodNotAllowed
    ├── Conflict
    │   ├── IllegalTransition   the table of phases has no such move
    │   ├── NotStoppable  PoolChanged
    │   ├── PoolNameTaken       NodePoolNameTaken
    │   └── StaleWrite          somebody else moved the row first: read again, decide again
    └── Unavailable             passing: nothing was changed; the same call may work later
        └── StoreUnavailable  EngineUnavailable
    NotOffered                  the call is known, and this platform does no such thing
    EngineRefused               final: the engine can never run this workload

`code` is what the API answers: stable and public. The message may change.
"""

from typing import ClassVar


class MusterError(Exception):
    """Anything muster says no with. The message is for people and holds no secret."""

    code: ClassVar[str] = "ModelArts.0010"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(MusterError):
    """A field is missing or outside what is allowed; the message names it."""

    code = "ModelArts.0104"


class TextNotKept(InvalidRequest):
    """A text holds what the store cannot keep."""

    def __init__(self) -> None:
        super().__init__("A text of the request holds the character NUL; leave it out.")


class MalformedJson(InvalidRequest):
    code = "ModelArts.2787"


class BodyTooLarge(InvalidRequest):
    pass


class ConflictingValues(InvalidRequest):
    code = "ModelArts.0107"


class QueryInvalid(InvalidRequest):
    """A query parameter of the resource layer (v2 pools) is outside what is allowed."""

    code = "ModelArts.50004000"


class NameTaken(InvalidRequest):
    code = "ModelArts.0103"


class QuotaExceeded(InvalidRequest):
    code = "ModelArts.0118"


class WorkspaceUnknown(InvalidRequest):
    code = "ModelArts.0102"


class NoSuchWorkspace(InvalidRequest):
    """What WorkspaceUnknown is to the workspace API itself."""

    code = "ModelArts.7005"


class WorkspaceFixed(InvalidRequest):
    """The default workspace can be neither changed nor deleted."""

    code = "ModelArts.3566"


class WorkspaceInUse(InvalidRequest):
    """Jobs or pools are left in it."""

    code = "ModelArts.7004"


class TooManyWorkspaces(InvalidRequest):
    code = "ModelArts.7006"


class GrantTaken(InvalidRequest):
    """What the API calls an authorization is there already, for that user."""

    code = "ModelArts.0424"


class GrantUnknown(InvalidRequest):
    code = "ModelArts.0429"


class FlavorInvalid(InvalidRequest):
    """There is such a flavor, but not for that pool."""

    code = "ModelArts.2763"


class FlavorUnknown(InvalidRequest):
    code = "ModelArts.2781"


class EngineUnknown(InvalidRequest):
    code = "ModelArts.2780"


class AlgorithmUnknown(InvalidRequest):
    code = "ModelArts.2755"


class AlgorithmNameTaken(NameTaken):
    code = "ModelArts.2752"


class AlgorithmMismatch(InvalidRequest):
    """A job is not what its algorithm asks it to be."""

    code = "ModelArts.2814"


class ChannelInvalid(InvalidRequest):
    """An input or output that an algorithm declares."""

    code = "ModelArts.2753"


class HyperparameterInvalid(InvalidRequest):
    """No value where there must be one, or one of the wrong type or out of range."""

    code = "ModelArts.2765"


class HyperparameterTaken(InvalidRequest):
    """Two of one name."""

    code = "ModelArts.2825"


class NotModifiable(InvalidRequest):
    """It is as it is for good."""

    code = "ModelArts.2771"


class TrainingQueryInvalid(InvalidRequest):
    """A query parameter of the v2 algorithm API is outside what is allowed."""

    code = "ModelArts.2764"


class DatasetUnknown(InvalidRequest):
    code = "ModelArts.2783"


class TooManyWorkers(InvalidRequest):
    """More workers than the flavor allows, or than the pool could ever hold."""

    code = "ModelArts.2793"


class CodeFolderInvalid(InvalidRequest):
    code = "ModelArts.2757"


class BootFileInvalid(InvalidRequest):
    code = "ModelArts.2758"


class BootFileOutside(BootFileInvalid):
    """The boot file does not lie under the code folder."""

    code = "ModelArts.2792"


class CodeTooManyFiles(InvalidRequest):
    code = "ModelArts.2759"


class CodeTooLarge(InvalidRequest):
    code = "ModelArts.2761"


class StoragePathInvalid(InvalidRequest):
    code = "ModelArts.2791"


class PoolNotForTraining(InvalidRequest):
    code = "ModelArts.2886"


class PoolNotRunning(InvalidRequest):
    code = "ModelArts.2887"


class LogNotReady(InvalidRequest):
    code = "ModelArts.2818"


class LogUnknown(InvalidRequest):
    code = "ModelArts.2820"


class ParameterInvalid(InvalidRequest):
    """What InvalidRequest is to the v2 training API."""

    code = "ModelArts.2788"


class TrainingJobUnknown(InvalidRequest):
    """What JobUnknown is to the v2 training API: the same code, and 400 there."""

    code = "ModelArts.2775"


class TrainingNameTaken(NameTaken):
    code = "ModelArts.2751"


class TrainingQuotaExceeded(QuotaExceeded):
    code = "ModelArts.2815"


class Unsupported(InvalidRequest):
    """It makes sense, and this server cannot do it."""

    code = "ModelArts.2858"


class CommandInvalid(InvalidRequest):
    """A start command and an image need each other."""

    code = "ModelArts.2806"


class ActionUnknown(InvalidRequest):
    code = "ModelArts.2812"


class SearchKeyUnknown(InvalidRequest):
    code = "ModelArts.2807"


class SearchOperatorUnknown(InvalidRequest):
    code = "ModelArts.2808"


class SearchValueInvalid(InvalidRequest):
    code = "ModelArts.2809"


class SortUnknown(InvalidRequest):
    code = "ModelArts.2790"


class Unauthenticated(MusterError):
    code = "ModelArts.0205"


class TokenExpired(Unauthenticated):
    code = "ModelArts.0202"


class TokenInvalid(Unauthenticated):
    code = "ModelArts.0203"


class TokenWithoutProject(Unauthenticated):
    code = "ModelArts.0212"


class SignatureMalformed(Unauthenticated):
    code = "ModelArts.0206"


class SignatureStale(Unauthenticated):
    code = "ModelArts.0208"


class Forbidden(MusterError):
    code = "ModelArts.0108"


class SignatureWrong(Unauthenticated):
    code = "ModelArts.0206"


class LinkInvalid(Forbidden):
    """A link to a log that this server has not made, or whose time is over."""

    code = "ModelArts.2784"


class ProjectMismatch(Forbidden):
    code = "ModelArts.0210"


class NotFound(MusterError):
    code = "ModelArts.2836"


class JobUnknown(NotFound):
    """No such job, version or job configuration in this project."""

    code = "ModelArts.2775"


class PoolUnknown(NotFound):
    code = "ModelArts.50015001"


class NodeUnknown(PoolUnknown):
    """The pool is there, and has no such node: the resource layer has one code for both."""


class NodePoolUnknown(PoolUnknown):
    """Likewise."""


class TrainingPoolUnknown(NotFound):
    code = "ModelArts.2890"


class ObjectUnknown(NotFound):
    code = "ModelArts.2773"


class PathUnknown(NotFound):
    code = "ModelArts.2836"


class MethodNotAllowed(MusterError):
    code = "ModelArts.2803"


class Conflict(MusterError):
    code = "ModelArts.2878"


class IllegalTransition(Conflict):
    def __init__(self, phase: str, event: str) -> None:
        super().__init__(f"A workload that is {phase} cannot take the event {event}.")
        self.phase, self.event = phase, event


class PoolNameTaken(Conflict):
    code = "ModelArts.50015000"


class NodePoolNameTaken(PoolNameTaken):
    """The pool has a node pool of that name."""


class PoolChanged(Conflict):
    """Two changes of a pool at once: this one lost."""


class NotStoppable(Conflict):
    code = "ModelArts.2796"


class StaleWrite(Conflict):
    pass


class Unavailable(MusterError):
    pass


class StoreUnavailable(Unavailable):
    """The database cannot be written or read at the moment: full disk, a lock, an I/O error."""


class EngineUnavailable(Unavailable):
    """The engine gave no answer: nothing is known, nothing changed."""


class NotOffered(MusterError):
    """The published API has the call, and what it asks for is nothing that this platform does."""

    code = "ModelArts.2858"


class EngineRefused(MusterError):
    """The engine can never run this workload as it is; the message says why."""
