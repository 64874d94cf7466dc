"""States as trees: any nested data as JSON and a list of tensors, and back, without loss and without pickle.

A dictionary whose keys are strings that don't begin with `$` is a JSON object, a list a JSON array.
Everything else that JSON lacks is an object whose first key begins with `$`: `{"$tuple": [...]}`, `{"$dict":
[[key, value], ...]}` for other keys, `{"$float": "nan"}`. A tensor of torch is `{"$tensor": name}`, an array
of numpy `{"$array": name}`, and where they apply:

    part                    of which part the tensor is, where not of this one
    alias                   true: the same memory as the node that has this name without it
    view                    {dtype, offset, shape, strides}, in bytes: a view of that tensor's memory
    dtype                   the own type, where the stored one doesn't say it: "complex128", ">f4", "<M8[ns]"
    stride                  in elements, where the axes are in another order, without gaps
    parameter               true for a torch.nn.Parameter
    requires_grad           true, where it is so
    device                  where the tensor was, if not in host memory

All comes back with the same types, and tensors that shared memory share it again, within a part and across
parts. Containers that were the same object come back equal, each for itself.
"""

from ._flatten import Flat, flatten
from ._rehearsal import rehearse, without_data
from ._unflatten import unflatten, wanted

__all__ = ["Flat", "flatten", "rehearse", "unflatten", "wanted", "without_data"]
