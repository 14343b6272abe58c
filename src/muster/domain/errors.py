"""The one tree of errors.

    MusterError
    ├── InvalidRequest          the caller asked for something that makes no sense; nothing changed
    │   ├── MalformedJson  BodyTooLarge  ConflictingValues  QueryInvalid  TextNotKept
    │   ├── NameTaken  QuotaExceeded  WorkspaceUnknown
    │   ├── NoSuchWorkspace  WorkspaceFixed  WorkspaceInUse  TooManyWorkspaces
    │   ├── GrantTaken  GrantUnknown
    │   ├── FlavorUnknown  EngineUnknown  AlgorithmUnknown  DatasetUnknown  TooManyWorkers
    │   ├── AlgorithmNameTaken  AlgorithmMismatch  ChannelInvalid  NotModifiable
    │   ├── ExperimentNameTaken  ExperimentUnknown
    │   ├── HyperparameterInvalid  HyperparameterTaken  TrainingQueryInvalid
    │   ├── CodeFolderInvalid  StoragePathInvalid  CodeTooManyFiles  CodeTooLarge
    │   ├── BootFileInvalid     BootFileOutside
    │   ├── PoolNotForTraining  PoolNotRunning  FlavorInvalid
    │   ├── TrainingJobUnknown  TrainingNameTaken  TrainingQuotaExceeded  ParameterInvalid
    │   ├── Unsupported  CommandInvalid  ActionUnknown
    │   ├── ModelConfigInvalid  ModelSourceInvalid  TooManyServices
    │   ├── DeploymentInvalid  ServiceStateForbids  NoRoomForInstance
    │   ├── SearchKeyUnknown  SearchOperatorUnknown  SearchValueInvalid  SortUnknown
    │   ├── NotebookUnknown  TooManyNotebooks  NotebookSortUnknown  NotebookQuotaExceeded
    │   ├── NotebookTextInvalid  NotebookTypeInvalid  NotebookFlavorInvalid  NotebookFixed
    │   ├── NotebookPoolInvalid  LeaseInvalid  VolumeSizeInvalid  VolumeClassInvalid
    │   ├── VolumeBucketUnknown  VolumePathMissing  VolumePathNoFolder
    │   ├── NotebookStateInvalid  NotebookRunning  NotebookStarting  NotebookStopped
    │   │                         NotebookStopping  NotebookNotRunning
    │   ├── ImageUnknown  ImageTaken  ImageInvalid  ImageInUse
    │   └── LogUnknown  LogNotReady
    ├── Unauthenticated         who is calling is not known
    │   ├── TokenExpired  TokenInvalid  TokenWithoutProject
    │   └── SignatureMalformed  SignatureStale
    ├── Forbidden               known, and may not
    │   └── SignatureWrong  ProjectMismatch  LinkInvalid
    ├── NotFound
    │   ├── JobUnknown  TrainingPoolUnknown  ObjectUnknown  PathUnknown
    │   ├── ModelUnknown  ServiceUnknown  NetworkUnknown
    │   └── PoolUnknown         NodeUnknown  NodePoolUnknown
    ├── MethodNotAllowed
    ├── Conflict
    │   ├── IllegalTransition   the table of phases has no such move
    │   ├── NotStoppable  PoolChanged
    │   ├── ModelVersionTaken  ModelInUse  ServiceNameTaken
    │   ├── PoolNameTaken       NodePoolNameTaken
    │   └── StaleWrite          somebody else moved the row first: read again, decide again
    └── Unavailable             passing: nothing was changed; the same call may work later
        └── StoreUnavailable  EngineUnavailable  InstancesUnavailable  TooManyConnections
    ProgramFailed               a program behind the proxy did not answer as it should
    └── ProgramUnreachable  ProgramBroken  ProgramTimedOut  ProgramUnwell
    TooBusy                     later there is room again
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


class ExperimentNameTaken(NameTaken):
    code = "ModelArts.2841"


class ExperimentUnknown(InvalidRequest):
    """No such experiment in this project. The published API answers 400, too."""

    code = "ModelArts.2842"


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


class NotebookUnknown(InvalidRequest):
    """No such notebook in this project. The published API answers 400, too."""

    code = "ModelArts.6309"


class TooManyNotebooks(InvalidRequest):
    code = "ModelArts.6302"


class NotebookSortUnknown(InvalidRequest):
    code = "ModelArts.6303"


class NotebookQuotaExceeded(QuotaExceeded):
    code = "ModelArts.0113"


class NotebookTextInvalid(InvalidRequest):
    """A name, a description or a tag."""

    code = "ModelArts.6334"


class NotebookTypeInvalid(InvalidRequest):
    code = "ModelArts.6332"


class NotebookFlavorInvalid(InvalidRequest):
    """There is no such flavor, or none that the pool could ever hold."""

    code = "ModelArts.6323"


class NotebookPoolInvalid(InvalidRequest):
    """The pool takes no notebooks, or is not Running."""

    code = "ModelArts.6336"


class NotebookFixed(InvalidRequest):
    """A field that cannot be changed in this state, or not at all."""

    code = "ModelArts.6347"


class LeaseInvalid(InvalidRequest):
    code = "ModelArts.6349"


class VolumeSizeInvalid(InvalidRequest):
    code = "ModelArts.6331"


class VolumeBucketUnknown(InvalidRequest):
    """There is no such bucket, or it is another project's."""

    code = "ModelArts.6316"


class VolumePathMissing(InvalidRequest):
    code = "ModelArts.6317"


class VolumePathNoFolder(InvalidRequest):
    code = "ModelArts.6318"


class VolumeClassInvalid(InvalidRequest):
    code = "ModelArts.6371"


class NotebookStateInvalid(InvalidRequest):
    """What is asked for is not possible in the state that the notebook is in."""

    code = "ModelArts.6357"


class NotebookRunning(NotebookStateInvalid):
    code = "ModelArts.6305"


class NotebookStarting(NotebookStateInvalid):
    code = "ModelArts.6306"


class NotebookStopped(NotebookStateInvalid):
    code = "ModelArts.6307"


class NotebookStopping(NotebookStateInvalid):
    code = "ModelArts.6308"


class NotebookNotRunning(NotebookStateInvalid):
    code = "ModelArts.6327"


class ImageUnknown(InvalidRequest):
    code = "ModelArts.6797"


class ImageTaken(NameTaken):
    code = "ModelArts.6737"


class ImageInvalid(InvalidRequest):
    """There is no such environment on this server."""

    code = "ModelArts.6771"


class ImageInUse(InvalidRequest):
    """A notebook is made from it, or it comes with muster."""

    code = "ModelArts.6336"


class ModelConfigInvalid(InvalidRequest):
    """What is said of a model, by its `config.json` or the request, makes no sense."""

    code = "ModelArts.3015"


class ModelSourceInvalid(InvalidRequest):
    """The folder of a model lacks what would be run."""

    code = "ModelArts.3017"


class DeploymentInvalid(InvalidRequest):
    """A service is asked to be what it cannot be here."""

    code = "ModelArts.3518"


class ServiceStateForbids(InvalidRequest):
    """Not as the service stands now."""

    code = "ModelArts.3519"


class TooManyServices(InvalidRequest):
    code = "ModelArts.3520"


class NoRoomForInstance(InvalidRequest):
    """No node could ever hold one instance."""

    code = "ModelArts.3976"


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


class NetworkUnknown(NotFound):
    code = "ModelArts.50025001"


class ModelUnknown(NotFound):
    code = "ModelArts.3001"


class ServiceUnknown(NotFound):
    code = "ModelArts.3502"


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


class ModelVersionTaken(Conflict):
    code = "ModelArts.3002"


class ModelInUse(Conflict):
    """A service runs it."""

    code = "ModelArts.3009"


class ServiceNameTaken(Conflict):
    code = "ModelArts.3503"


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


class InstancesUnavailable(Unavailable):
    """No instance of a service can take a request now."""

    code = "ModelArts.3501"


class TooBusy(MusterError):
    """More is asked for at once than is done or kept waiting; later there is room again."""

    code = "ModelArts.2799"


class TooManyConnections(Unavailable):
    """A program behind the proxy has as many open as it may."""


class ProgramFailed(MusterError):
    """A program behind the proxy did not answer a request that was passed on to it."""


class ProgramUnreachable(ProgramFailed):
    """Nothing of the request has reached it."""


class ProgramBroken(ProgramFailed):
    """Its answer ended in the middle, or is no HTTP."""


class ProgramTimedOut(ProgramFailed):
    """It took too long."""


class ProgramUnwell(ProgramTimedOut):
    """It is not well, and has left a request lying."""


class NotOffered(MusterError):
    """The published API has the call, and what it asks for is nothing that this platform does."""

    code = "ModelArts.2858"


class EngineRefused(MusterError):
    """The engine can never run this workload as it is; the message says why."""
