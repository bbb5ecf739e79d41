import numpy as np
import pyarrow as pa
import pytest
import torch
from factories import training_rows

from reasonembed.config import Train
from reasonembed.redapter.batch_plan import BATCHES, sample_batch_row, to_examples
from reasonembed.redapter.masking import passage_masks

CPU = torch.device("cpu")
WORDS = " ".join(f"word{n}" for n in range(100))


def sampled_example(row):
    batch_row = sample_batch_row(row, 0, 0, 3, Train(workers=1, batch_size=3, group_size=4), seed=0)
    return to_examples(pa.Table.from_pylist([batch_row], schema=BATCHES))[0]


@pytest.mark.parametrize("in_group", [WORDS, "known positive"])
def test_known_positives_equal_texts_and_near_duplicates_are_not_negatives(in_group):
    first = training_rows()[0] | {"pos": [WORDS, "known positive"], "neg": ["one thing", "another thing"]}
    first |= {"neg_score": [0.1, 0.2], "neg_grade": [1, 1]}
    if sampled_example(first).passages[0] != in_group:
        first["pos"] = first["pos"][::-1]
    # The negatives of the second query: a positive of the first one with other white space, and a near-duplicate of the
    # other positive.
    second = training_rows()[1] | {"neg": ["known  positive", WORDS + " more"]}
    second |= {"neg_score": [0, 0], "neg_grade": [1, 1]}
    examples = [sampled_example(first), sampled_example(second)]
    assert examples[0].passages[0] == in_group
    texts = [text for example in examples for text in example.passages]

    def excluded_texts(masks):
        return {texts[i] for i in np.flatnonzero(masks.excluded[0].numpy())}

    masks = passage_masks(examples, [6], 0, 0.9, CPU)
    assert masks.positives.tolist() == [0, 3]
    # Near-duplicates are found of the positives in the group, equal texts of all known positives.
    assert excluded_texts(masks) == {"known  positive"} | ({WORDS + " more"} if in_group == WORDS else set())
    assert not masks.excluded[1].any()
    assert excluded_texts(passage_masks(examples, [6], 0, 1.0, CPU)) == {"known  positive"}
