extension MindFormersMetadata {
    /// The file, in its style, without a newline at its end.
    ///
    /// Tensor by tensor and slice by slice, since the ranks of a large cluster make a large file.
    public func serialized() -> [UInt8] {
        let json = JSON.Style(indent: style == .indented ? 4 : nil)
        var output: [UInt8] = []
        let sections: [(name: String, count: Int, member: (Int) -> JSON.Member)] = [
            ("state_dict_metadata", tensors.count, { .init(tensors[$0].name, tensors[$0].json) }),
            ("storage_data", slices.count, { .init(slices[$0].key, slices[$0].json) }),
        ]
        output.append(UInt8(ascii: "{"))
        for (number, section) in sections.enumerated() {
            JSON.separate(number, &output, json, 0)
            JSON.writeKey(section.name, &output, json)
            output.append(UInt8(ascii: "{"))
            for index in 0..<section.count {
                JSON.separate(index, &output, json, 1)
                let member = section.member(index)
                JSON.writeKey(member.key, &output, json)
                member.value.write(to: &output, json, level: 2)
            }
            if section.count > 0 { JSON.newline(&output, json, 1) }
            output.append(UInt8(ascii: "}"))
        }
        JSON.newline(&output, json, 0)
        output.append(UInt8(ascii: "}"))
        return output
    }
}

extension MindFormersMetadata.Tensor {
    fileprivate var json: JSON {
        let replicas: JSON =
            switch self.replicas {
            case .one(let number): JSON(number)
            case .each(let numbers): JSON(numbers)
            }
        return .object([
            .init(
                "properties",
                .object([
                    .init("dtype", JSON(dtype)), .init("replica_id", replicas),
                    .init("allow_shape_mismatch", JSON(allowsShapeMismatch)),
                    .init("allow_to_save", JSON(isSaved)),
                ])),
            .init("global_shape", JSON(shape)), .init("axis_fragmentations", JSON(fragmentations)),
            .init("layout", layout?.json ?? .null),
            .init(
                "chunk",
                .array(
                    chunks.map {
                        .object([
                            .init("global_offset", JSON([$0.slice])), .init("local_shape", JSON($0.shape)),
                        ])
                    })),
        ])
    }
}

extension MindFormersLayout {
    fileprivate var json: JSON {
        .object([
            .init("device_matrix", JSON(deviceMatrix)), .init("tensor_map", .array(tensorMap.map(\.json))),
            .init("interleaved_parallel", JSON(isInterleaved)),
            .init("alias_name", .array(axisNames.map { JSON($0) })), .init("rank_list", JSON(ranks)),
        ])
    }
}

extension MindFormersLayout.Cut {
    fileprivate var json: JSON {
        switch self {
        case .none: JSON(-1)
        case .axis(let axis): JSON(axis)
        case .axes(let axes): JSON(axes)
        }
    }
}

extension MindFormersMetadata.StoredSlice {
    /// `('name', (0,))`: what Python makes of the name and the slice as text.
    var key: String { "(\(PythonText.literal(of: tensor)), (\(slice),))" }

    fileprivate var json: JSON {
        .array(
            places.map { place in
                var members: [JSON.Member] = [
                    .init("file_name", JSON(place.fileName)), .init("storage_rank", JSON(place.rank)),
                ]
                if let holders = place.holders { members.append(.init("rank_group", JSON(holders))) }
                return .object(members)
            })
    }
}

extension JSON {
    init(_ integers: [some BinaryInteger]) { self = .array(integers.map { JSON($0) }) }
}
