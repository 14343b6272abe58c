"""JSON shapes of the v2 algorithm API. Times are epoch milliseconds; ids are text."""

from typing import Annotated

from msgspec import Meta, Struct

from muster.domain.algorithm import (
    Constraint,
    DeclaredInput,
    DeclaredOutput,
    RewardAttribute,
    SearchMethod,
    SearchParameter,
    TranslatedText,
)
from muster.wire.training import Integer, Order, WorkspaceId

# ------------------------------------------------------------------ requests


class GivenAlgorithmMetadata(Struct, kw_only=True):
    """The server gives the id; one in a request is not looked at."""

    name: str
    id: str | Integer | None = None
    description: str | None = None
    workspace_id: str | None = None
    ai_project: str | None = None


class ChangedMetadata(Struct, kw_only=True):
    name: str | None = None
    id: str | Integer | None = None
    description: str | None = None
    workspace_id: str | None = None
    ai_project: str | None = None


class GivenDeclaration(Struct, kw_only=True):
    """A hyperparameter: any scalar is its default, and is kept as text."""

    name: str
    value: str | Integer | float | bool | None = None
    description: str | None = None
    constraint: Constraint | None = None
    i18n_description: TranslatedText | None = None


class GivenAlgorithmEngine(Struct, kw_only=True):
    engine_id: str | None = None
    engine_name: str | None = None
    engine_version: str | None = None
    image_url: str | None = None


class GivenJobConfig(Struct, kw_only=True):
    code_dir: str | None = None
    boot_file: str | None = None
    command: str | None = None
    parameters: list[GivenDeclaration] | None = None
    inputs: list[DeclaredInput] | None = None
    outputs: list[DeclaredOutput] | None = None
    engine: GivenAlgorithmEngine | None = None
    parameters_customization: bool | None = None


class GivenRequirement(Struct, kw_only=True):
    """`values` or `value`: the documents have both."""

    key: str
    values: list[str] | None = None
    value: list[str] | None = None
    operator: str | None = None


class GivenAutoSearch(Struct, kw_only=True):
    skip_search_params: str | None = None
    reward_attrs: list[RewardAttribute] | None = None
    search_params: list[SearchParameter] | None = None
    algo_configs: list[SearchMethod] | None = None


class GivenAdvancedConfig(Struct, kw_only=True):
    auto_search: GivenAutoSearch | None = None


class AlgorithmRequest(Struct, kw_only=True):
    metadata: GivenAlgorithmMetadata
    job_config: GivenJobConfig
    resource_requirements: list[GivenRequirement] | None = None
    advanced_config: GivenAdvancedConfig | None = None


class AlgorithmUpdate(Struct, kw_only=True):
    """What is absent or null stays; `job_config` is taken as a whole."""

    metadata: ChangedMetadata | None = None
    job_config: GivenJobConfig | None = None
    resource_requirements: list[GivenRequirement] | None = None
    advanced_config: GivenAdvancedConfig | None = None


class AlgorithmsQuery(Struct, kw_only=True):
    """`offset` counts rows, from 0."""

    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, Meta(ge=1, le=50)] = 50
    sort_by: str = "create_time"
    order: Order = "desc"
    group_by: str = ""
    searches: str = ""  # `name:PART`, or a part of the name alone
    workspace_id: WorkspaceId = "0"


# ------------------------------------------------------------------ replies


class AlgorithmMetadata(Struct, kw_only=True):
    id: str
    name: str
    description: str
    workspace_id: str
    ai_project: str = "default-ai-project"
    user_name: str
    domain_id: str
    source: str = "custom"  # nothing is subscribed to here
    api_version: str = ""
    is_valid: bool  # whether its code and its engine are still there
    state: str = ""
    tags: list[dict[str, str]]
    attr_list: list[str]
    version_num: int = 0  # of versions published to a gallery
    size: int  # of the code in bytes, when it was last changed
    create_time: int
    update_time: int


class ConstraintView(Struct, kw_only=True):
    type: str
    editable: bool
    required: bool
    sensitive: bool
    valid_type: str
    valid_range: list[str]


class DeclarationView(Struct, kw_only=True):
    name: str
    value: str
    description: str
    constraint: ConstraintView
    i18n_description: TranslatedText | None


class RemoteConstraintView(Struct, kw_only=True):
    data_type: str
    attributes: list[dict[str, str]]


class InputView(Struct, kw_only=True):
    name: str
    description: str
    remote_constraints: list[RemoteConstraintView]


class OutputView(Struct, kw_only=True):
    name: str
    description: str


class AlgorithmEngineView(Struct, kw_only=True):
    engine_id: str | None = None
    engine_name: str | None = None
    engine_version: str | None = None
    image_url: str | None = None


class CodeTree(Struct, kw_only=True):
    """A file, or a folder with what is in it."""

    name: str
    children: list["CodeTree"]


class JobConfigView(Struct, kw_only=True):
    code_dir: str | None
    boot_file: str | None
    command: str | None
    parameters: list[DeclarationView]
    inputs: list[InputView]
    outputs: list[OutputView]
    engine: AlgorithmEngineView
    code_tree: CodeTree | None  # of a single one: as it is now; null where there is none
    parameters_customization: bool


class RequirementView(Struct, kw_only=True):
    key: str
    value: list[str]
    values: list[str]  # the same: as requests have it
    operator: str


class SearchParameterView(Struct, kw_only=True):
    name: str | None
    param_type: str | None
    lower_bound: str | None
    upper_bound: str | None
    discrete_points_num: str | None
    discrete_values: str | None  # text, where the request has a list


class AutoSearchView(Struct, kw_only=True):
    skip_search_params: str | None
    reward_attrs: list[RewardAttribute]
    search_params: list[SearchParameterView]
    algo_configs: list[SearchMethod]


class AdvancedConfigView(Struct, kw_only=True):
    auto_search: AutoSearchView | None


class AlgorithmView(Struct, kw_only=True):
    metadata: AlgorithmMetadata
    job_config: JobConfigView
    resource_requirements: list[RequirementView]
    advanced_config: AdvancedConfigView


class AlgorithmViews(Struct, kw_only=True):
    total: int  # that match, on all pages
    count: int  # on this one
    limit: int
    offset: int
    sort_by: str
    order: str
    group_by: str
    items: list[AlgorithmView]
