import pytest

from muster.domain.errors import ImageInvalid
from muster.domain.image import (
    Arch,
    Image,
    ImageList,
    ImagePath,
    built_in_image,
    parse_image_path,
    select_images,
)

JUPYTERLAB = built_in_image("4.6.6", Arch.X86_64, interpreter="")


def image(name: str, tag: str = "1", *, at: int = 1, workspace_id: str = "0") -> Image:
    return Image(
        uid=f"{name}-{tag}",
        project_id="p",
        workspace_id=workspace_id,
        path=ImagePath(namespace="local", name=name, tag=tag),
        interpreter="/bin/python",
        created_at_ms=at,
        updated_at_ms=at,
    )


def test_a_path_is_taken_apart_and_put_together_again() -> None:
    path = parse_image_path("local/torch-2:2.4.1")

    assert path == ImagePath(namespace="local", name="torch-2", tag="2.4.1")
    assert str(path) == "local/torch-2:2.4.1"


@pytest.mark.parametrize(
    "text", ["", "torch", "torch:1", "local/torch", "a/b/c:1", "local/..:1", "local/x:", "a/b:c d"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ImageInvalid, match="local/NAME:TAG"):
        parse_image_path(text)


def test_the_id_of_what_comes_with_muster_outlives_its_version() -> None:
    newer = built_in_image("5.0", Arch.X86_64, interpreter="")

    assert newer.uid == JUPYTERLAB.uid
    assert newer.path.tag == "5.0"


def test_images_are_selected_sorted_and_paged() -> None:
    images = [JUPYTERLAB, image("torch", at=3), image("torch", "2", at=2), image("numpy", at=5)]

    total, page = select_images(images, ImageList(limit=2))
    assert (total, [one.path.name for one in page]) == (4, ["numpy", "torch"])
    by_name = ImageList(sort_key="name", is_descending=False, is_built_in=False)
    assert [one.path.name for one in select_images(images, by_name)[1]] == [
        "numpy", "torch", "torch",
    ]  # fmt: skip
    assert select_images(images, ImageList(name="torch", tag="2"))[0] == 1
    assert select_images(images, ImageList(name="TOR"))[0] == 0
    assert select_images(images, ImageList(name="TOR", is_name_part=True))[0] == 2
    assert select_images(images, ImageList(shown_name="torch"))[0] == 2
    assert select_images(images, ImageList(name="numpy", shown_name="torch"))[0] == 0


def test_what_comes_with_muster_is_in_every_workspace() -> None:
    images = [JUPYTERLAB, image("torch", workspace_id="w")]

    assert select_images(images, ImageList(workspace_id="w"))[0] == 2
    assert select_images(images, ImageList(workspace_id="0"))[1] == [JUPYTERLAB]
