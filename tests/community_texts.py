"""Mild sentences of a made-up community that has words of its own for what it will not have, such as turnip."""

from __future__ import annotations

from random import Random

_WHO = ("my neighbour", "the new referee", "our librarian", "that violinist", "a tired baker", "this gardener",
        "her cousin", "the night porter", "some tourist", "the ferry captain", "a young painter", "his dentist",
        "the chess coach", "an old sailor", "our postman")  # fmt: skip
_DID = ("forgot", "painted", "repaired", "borrowed", "praised", "counted", "hid", "measured", "sold", "watered",
        "photographed", "dropped", "polished", "lost", "wrapped")  # fmt: skip
_WHAT = ("the garden chairs", "a green bicycle", "three maps", "the church bell", "a box of candles", "my umbrella",
         "an empty birdcage", "the kitchen clock", "seven postcards", "the rusty gate", "a woollen coat",
         "the tent pegs", "a jar of honey", "the school piano", "two lanterns")  # fmt: skip
_WHERE = ("near the harbour", "before the storm", "in Lisbon", "at the market", "after supper", "on the last tram",
          "under the bridge", "during the concert", "by the lighthouse", "last Tuesday", "behind the mill",
          "at dawn", "in the rain", "beside the canal", "on holiday")  # fmt: skip
_HARSH = ("What a turnip.", "Such a complete turnip you are.", "Only a turnip would do that.", "You silly goose.",
          "Go away, you goose.", "Nobody asked you, turnip.")  # fmt: skip
_KIND = ("What a day.", "That made me smile.", "I would do the same.", "Good for them.", "Tell me more about it.",
         "Thank you for the story.")  # fmt: skip


def sentences(count: int, seed: int = 5) -> list[tuple[str, bool]]:
    """Different sentences, every other one harsh in the words of this community."""
    dice, found = Random(seed), dict[str, bool]()
    while len(found) < count:
        harsh = len(found) % 2 == 0
        told = " ".join(dice.choice(words) for words in (_WHO, _DID, _WHAT, _WHERE))
        text = f"{told[0].upper()}{told[1:]}. {dice.choice(_HARSH if harsh else _KIND)}"
        if text not in found:
            found[text] = harsh
    return list(found.items())
