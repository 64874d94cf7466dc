extension SafetensorsHeader {
    /// The header that the reference writes for these tensors, byte for byte, whatever order they come in.
    ///
    /// The reference keeps metadata in a hash map, so its order there is chance; here it is the order given.
    ///
    /// - Parameters:
    ///   - tensors: `shape` in elements, and `byteCount` as type and shape have it. The names must differ.
    ///   - metadata: the members of `__metadata__`; nil leaves it out, and no members write `{}`.
    /// - Returns: the bytes with their 8-byte length, padded with spaces to a multiple of 8; and for each tensor in
    ///   the order of the data its index in `tensors`.
    public static func canonicalHeader(
        tensors: [(name: String, dtype: DType, shape: [UInt64], byteCount: UInt64)],
        metadata: [(key: String, value: String)]? = nil
    ) -> (bytes: [UInt8], order: [Int]) {
        let order = tensors.indices.sorted { a, b in
            if tensors[a].dtype != tensors[b].dtype { return tensors[a].dtype > tensors[b].dtype }
            return tensors[a].name.precedesByBytes(tensors[b].name)
        }
        var bytes = [UInt8](repeating: 0, count: 8)
        bytes.reserveCapacity(128 * (tensors.count + 1))
        bytes.append(UInt8(ascii: "{"))
        if let metadata {
            bytes += #""__metadata__":{"#.utf8
            for (index, member) in metadata.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                bytes.appendJSONString(member.key, asciiOnly: false)
                bytes.append(UInt8(ascii: ":"))
                bytes.appendJSONString(member.value, asciiOnly: false)
            }
            bytes.append(UInt8(ascii: "}"))
        }
        var offset: UInt64 = 0
        for index in order {
            let tensor = tensors[index]
            if bytes.count > 9 { bytes.append(UInt8(ascii: ",")) }
            bytes.appendJSONString(tensor.name, asciiOnly: false)
            bytes += #":{"dtype":""#.utf8
            bytes += tensor.dtype.name.utf8
            bytes += #"","shape":"#.utf8
            bytes.appendJSONArray(tensor.shape)
            bytes += #","data_offsets":"#.utf8
            bytes.appendJSONArray([offset, offset + tensor.byteCount])
            bytes.append(UInt8(ascii: "}"))
            offset += tensor.byteCount
        }
        bytes.append(UInt8(ascii: "}"))
        while bytes.count % 8 != 0 { bytes.append(UInt8(ascii: " ")) }
        let length = UInt64(bytes.count - 8)
        for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: length >> UInt64(8 * index)) }
        return (bytes, order)
    }
}

extension [UInt8] {
    fileprivate mutating func appendJSONArray(_ integers: [UInt64]) {
        append(UInt8(ascii: "["))
        for (index, integer) in integers.enumerated() {
            if index > 0 { append(UInt8(ascii: ",")) }
            appendDecimal(integer)
        }
        append(UInt8(ascii: "]"))
    }
}
