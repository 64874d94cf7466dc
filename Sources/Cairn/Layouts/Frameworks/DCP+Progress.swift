internal import Platform
internal import TensorFormats

/// What a training loop saved of where it was, beside model and optimizer.
extension DCP {
    private static let steps = ["global_step", "step", "iteration", "iter"]
    /// What holds such numbers, as torchtitan's `train_state` does.
    private static let holders: Set = [
        "train_state", "trainer_state", "trainer", "state", "app", "progress", "extra_state",
    ]

    /// The step, if it is a number or a tensor with one element, at the top or in a state of the training.
    func readProgress(_ metadata: DCPMetadata, _ view: CheckpointView, _ result: inout Inspection) throws {
        var places: [String: DCPMetadata.Place] = [:]
        let note = {
            (
                name: String, path: [DCPMetadata.Key]?, place: DCPMetadata.Place?,
                places: inout [String: DCPMetadata.Place]
            ) in
            let keys = DCPRole.keys(name, path)
            guard let last = keys.last, Self.steps.contains(last) || last == "epoch",
                keys.count == 1 || keys.count < 4 && keys.dropLast().allSatisfy({ Self.holders.contains($0) })
            else { return }
            places[last] = places[last] ?? place
        }
        for object in metadata.objects { note(object.name, object.path, object.place, &places) }
        for tensor in metadata.tensors { note(tensor.name, tensor.path, tensor.chunks.first?.place, &places) }
        for key in Self.steps {
            guard let place = places[key], let step = try number(place, metadata, view)?.step else {
                continue
            }
            (result.step, result.stepFile) = (step, metadata.files[place.file])
            break
        }
        if let place = places["epoch"] { result.epoch = try number(place, metadata, view)?.double }
    }

    /// The number that an item holds. Items are files of `torch.save`, one behind the other.
    private func number(_ place: DCPMetadata.Place, _ metadata: DCPMetadata, _ view: CheckpointView) throws
        -> TensorNumber?
    {
        guard place.transforms.isEmpty, let file = view[metadata.files[place.file]] else { return nil }
        let start = place.offset
        do {
            let tree = try TorchTree(pyTorch: place.length) { range in
                try view.read(file, start + range.lowerBound..<start + range.upperBound)
            }
            if let tensor = tree.root.tensor, let dtype = tensor.dtype, let range = tensor.range {
                return try view.number(
                    dtype, tensor.shape, start + range.lowerBound, range.upperBound - range.lowerBound,
                    in: file)
            }
            return try view.number(tree.root, in: file)
        } catch is TensorFileError {
            return nil
        }
    }
}
