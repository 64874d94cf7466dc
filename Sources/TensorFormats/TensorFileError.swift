/// Why a file is not taken as one of its format whose tensors are known, or can't be written in it.
///
/// A caller that stores files keeps one that is not taken as plain bytes, and says `message`.
public struct TensorFileError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is. Open: later versions add codes.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
    }

    public let code: Code
    /// One sentence for people.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// What is wrong with a zip file.
    static func archive(_ what: String) -> TensorFileError {
        TensorFileError(
            .damaged, "The zip file is damaged, or not of the simple kind that is read here: \(what).")
    }

    /// What is wrong with the header of safetensors.
    init(_ error: JSONError) {
        self.init(.invalidHeader, "The header is not valid: \(error).")
    }

    public var description: String { message }
}

/// Of any file that is read.
extension TensorFileError.Code {
    /// It does not begin, or a zip file end, as a file of the format does.
    public static let otherFormat = Self(rawValue: "other-format")
    /// It contradicts itself, or was cut off.
    public static let damaged = Self(rawValue: "damaged")
    /// The bytes of its tensors do not stand in it as they are.
    public static let compressed = Self(rawValue: "compressed")
    public static let encrypted = Self(rawValue: "encrypted")
    /// The numbers are big endian.
    public static let byteOrder = Self(rawValue: "byte-order")
    /// A version, a type or an arrangement that is not known here.
    public static let unsupported = Self(rawValue: "unsupported")
    /// A limit of the reader, or of the writer or its format, is passed.
    public static let tooLarge = Self(rawValue: "too-large")
}

/// Of files of PyTorch.
extension TensorFileError.Code {
    /// The pickle is not one, or does what no pickle of tensors does.
    public static let invalidPickle = Self(rawValue: "invalid-pickle")
    /// A tensor or its storage is not in the file as the pickle says.
    public static let invalidStorage = Self(rawValue: "invalid-storage")
}

/// Of safetensors.
extension TensorFileError.Code {
    /// The file is shorter than its own first eight bytes, or than the header they announce.
    public static let truncatedHeader = Self(rawValue: "truncated-header")
    /// The header is longer than 100,000,000 bytes.
    public static let headerTooLarge = Self(rawValue: "header-too-large")
    /// The header is not UTF-8, not JSON, or an entry has not the fields, types or numbers of a tensor.
    public static let invalidHeader = Self(rawValue: "invalid-header")
    /// Two tensors have one name. The reference takes the last one in silence; we do not.
    public static let duplicateName = Self(rawValue: "duplicate-name")
    /// The tensors leave a hole, overlap, or are not as long as type and shape say.
    public static let invalidExtent = Self(rawValue: "invalid-extent")
    /// The data is longer or shorter than the tensors.
    public static let wrongFileSize = Self(rawValue: "wrong-file-size")
}

/// Of what is to be written.
extension TensorFileError.Code {
    /// The format has no such element type.
    public static let unsupportedDType = Self(rawValue: "unsupported-dtype")
    /// A shape is beyond 64 bits, is not whole bytes, or is not what its pieces make up.
    public static let invalidShape = Self(rawValue: "invalid-shape")
    /// A name is empty, too long or not allowed, or two are the same.
    public static let invalidName = Self(rawValue: "invalid-name")
    /// What is to be written names something that was not given, or nests too deeply.
    public static let invalidValue = Self(rawValue: "invalid-value")
    /// A dimension does not divide among the devices, or a mesh or tensor map contradicts itself.
    public static let invalidLayout = Self(rawValue: "invalid-layout")
}
