// What users of `Cairn` need of the layers below it, so that they import one module. Each by its name: the
// rest of those layers stays out of sight. (A typealias would not do: with MemberImportVisibility its
// members stay hidden.)
@_exported public import struct Platform.CairnError
@_exported public import enum Platform.Clock
@_exported public import enum Platform.Interruption
@_exported public import enum Platform.Process
@_exported public import enum Platform.Terminal
@_exported public import enum TensorFormats.JSON
@_exported public import struct TensorFormats.JSONError
